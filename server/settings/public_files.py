"""The settings files of the public oMLX, in our words: settings.json ("version": "1.0") and model_settings.json."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from ..requests import Json
from .document import Document, KeyPath
from .keys import find_key


@dataclass(frozen=True, slots=True)
class Taken:
    """`name` is the setting there, `key` ours."""

    name: str
    key: str
    value: Json


@dataclass(frozen=True, slots=True)
class Left:
    """A setting that says something and is not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Translation:
    """`document` holds what was taken, and the lines where it stood."""

    document: Document
    taken: tuple[Taken, ...]
    left: tuple[Left, ...]


Convert = Callable[[Json], Json]
"""Their value in our words. Raises `SettingsError` with the reason it is not taken."""


def _same(value: Json) -> Json:
    return value


def _one_host(value: Json) -> Json:
    if isinstance(value, str) and "," in value:
        raise SettingsError("omlx listens on one address; choose one with `omlx config set server.host`")
    return value


def _own_folder(value: Json) -> Json:
    return str(Path(value) / "omlx") if isinstance(value, str) else value


def _one_folder(value: Json) -> Json:
    return [value]


def _no_disk(value: Json) -> Json:
    return _unless(value is False, "it is off", 0)


def _disk_size(value: Json) -> Json:
    return _unless(value == "auto", "omlx has a limit of its own, see cache.ssd_bytes", value)


def _ram_size(value: Json) -> Json:
    return _unless(value in ("0", 0), "0 is the default there; here the memory is divided by itself", value)


def _unless(refused: bool, reason: str, value: Json) -> Json:
    if refused:
        raise SettingsError(reason)
    return value


_SERVER: Mapping[KeyPath, tuple[str, Convert]] = {
    ("server", "host"): ("server.host", _one_host),
    ("server", "port"): ("server.port", _same),
    ("model", "model_dir"): ("server.model_dirs", _one_folder),
    ("model", "model_dirs"): ("server.model_dirs", _same),
    ("scheduler", "max_concurrent_requests"): ("engine.max_num_seqs", _same),
    ("cache", "enabled"): ("cache.enabled", _same),
    ("cache", "ssd_cache_dir"): ("cache.folder", _own_folder),
    ("cache", "ssd_cache_max_size"): ("cache.ssd_bytes", _disk_size),
    ("cache", "hot_cache_only"): ("cache.ssd_bytes", _no_disk),
    ("cache", "hot_cache_max_size"): ("cache.ram_bytes", _ram_size),
}
_MODEL: Mapping[str, str] = {
    "model_alias": "alias",
    "max_context_window": "max_context_window",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "reasoning_parser": "reasoning_parser",
    "enable_thinking": "thinking",
    "thinking_budget_tokens": "thinking_budget",
    "is_pinned": "pin",
    "ttl_seconds": "ttl_seconds",
}
_REASONS: Mapping[str, str] = {
    "auth": "keys never stand in settings; set OMLX_API_KEY",
    "sampling": "here each model has its own, see models.ID.temperature and models.ID.max_context_window",
    "idle_timeout": "here each model has its own, see models.ID.ttl_seconds",
    "claude_code": "the launcher remembers the model of each agent itself",
    "integrations": "the launcher remembers the model of each agent itself",
}
_NO_COUNTERPART = "omlx has no such setting"


def is_public(document: Document) -> bool:
    """Whether the public oMLX wrote this settings.json: its version is a text."""
    return isinstance(document.content.get("version"), str)


def translate(document: Document, target: Document | None = None) -> Translation:
    """Its settings.json in our words, on top of `target`."""
    taken: list[tuple[Taken, int]] = []
    left: list[Left] = []
    for section, content in document.content.items():
        if section == "version" or not isinstance(content, dict):
            continue
        for name, value in content.items():
            if value in (None, "", []):
                continue
            path = (section, name)
            reason = _REASONS.get(section, _NO_COUNTERPART)
            _sort(document, path, value, _SERVER.get(path), reason, taken, left)
    return _translation(target or Document(document.path), taken, left)


def translate_models(document: Document, target: Document, known_ids: Sequence[str] = ()) -> Translation:
    """Its model_settings.json in our words, on top of `target`. `known_ids` are our names for the models."""
    taken: list[tuple[Taken, int]] = []
    left: list[Left] = []
    for their_id, path, content in _models(document):
        model_id = _our_id(their_id, known_ids)
        for name, value in content.items():
            if value in (None, "", False) and name != "enable_thinking":
                continue
            if value is None or (name == "thinking_budget_tokens" and not content.get("thinking_budget_enabled")):
                continue
            ours = f"models.{model_id}.{_MODEL[name]}" if name in _MODEL else ""
            rule = (ours, _same) if ours else None
            if name != "thinking_budget_enabled":
                _sort(document, (*path, name), value, rule, _NO_COUNTERPART, taken, left)
    return _translation(target, taken, left)


def _models(document: Document) -> Iterator[tuple[str, KeyPath, dict[str, Json]]]:
    listed = document.content.get("models")
    prefix: KeyPath = ("models",) if isinstance(listed, dict) else ()
    for model_id, content in (listed if isinstance(listed, dict) else document.content).items():
        if isinstance(content, dict):
            yield model_id, (*prefix, model_id), content


def _our_id(their_id: str, known_ids: Sequence[str]) -> str:
    """Theirs is the last folder's name, or `org--name`; ours is `org/name` where a model lies that deep."""
    if their_id in known_ids:
        return their_id
    same = [known for known in known_ids if their_id in (known.rpartition("/")[2], known.replace("/", "--"))]
    return same[0] if len(same) == 1 else their_id


def _sort(
    document: Document,
    path: KeyPath,
    value: Json,
    rule: tuple[str, Convert] | None,
    reason: str,
    taken: list[tuple[Taken, int]],
    left: list[Left],
) -> None:
    name = ".".join(path)
    if rule is None:
        left.append(Left(name, reason))
        return
    key_name, convert = rule
    try:
        taken.append((Taken(name, key_name, find_key(key_name).convert(convert(value))), document.lines.get(path, 1)))
    except SettingsError as error:
        left.append(Left(name, str(error)))


def _translation(target: Document, taken: Sequence[tuple[Taken, int]], left: Sequence[Left]) -> Translation:
    lines: dict[KeyPath, int] = {}
    document = target
    for each, line in taken:
        path = find_key(each.key).path
        document = document.changed(path, each.value)
        lines[path] = line
    return Translation(Document(target.path, document.content, lines), tuple(each for each, _ in taken), tuple(left))
