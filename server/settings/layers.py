"""The layers of the configuration: default < settings.json < environment < command line.

Every value knows which layer it is from. Nothing is written here, so a flag never persists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from ..errors import SettingsError
from ..requests import Json
from .document import Document, KeyPath
from .keys import MODELS, SECTIONS, Key, keys, model_keys, nearest
from .values import FILE_VERSION, Settings

_OTHER_VARIABLES = ("OMLX_HOME", "OMLX_API_KEY", "OMLX_URL")
_NEAR = 0.85
"""Only a variable this near to a known one is called a slip: others may be somebody else's."""


class Layer(StrEnum):
    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "command line"


@dataclass(frozen=True, slots=True)
class Value:
    """`place` is FILE:LINE, the variable or the flag, "" for a default."""

    key: Key
    value: Json
    layer: Layer = Layer.DEFAULT
    place: str = ""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Every value in force, by name; a model's are listed where one of them is set."""

    values: dict[str, Value]
    warnings: tuple[str, ...] = field(default=())

    @property
    def settings(self) -> Settings:
        nested: dict[str, Json] = {}
        for value in self.values.values():
            section = nested
            for name in value.key.path[:-1]:
                inner = section.setdefault(name, {})
                assert isinstance(inner, dict)
                section = inner
            section[value.key.path[-1]] = value.value
        return msgspec.convert(nested, Settings)


def layered(document: Document, environ: Mapping[str, str], flags: Mapping[str, Json]) -> Configuration:
    """The configuration in force. `flags` are the options given, as texts or lists of texts, by
    the setting's name.

    Raises `SettingsError` with the place, the reason and the remedy.
    """
    values, warnings = read_values(document)
    found = {key.name: values.pop(key.name, Value(key, key.default)) for key in keys()}
    for value in list(values.values()):
        for key in model_keys(value.key.path[1]):
            found[key.name] = values.get(key.name, Value(key, key.default))
    for name, value in found.items():
        variable = value.key.variable
        if environ.get(variable):
            found[name] = Value(value.key, _from_variable(value.key, environ[variable]), Layer.ENVIRONMENT, variable)
    for name, given in flags.items():
        key = found[name].key
        found[name] = Value(key, _from_flag(key, given), Layer.FLAG, flag_of(key))
    return Configuration(found, (*warnings, *_slips(environ)))


def read_values(document: Document) -> tuple[dict[str, Value], list[str]]:
    """What the file sets, by name, and a warning for each thing in it that means nothing here.

    Raises `SettingsError` where a value is not what its setting takes, or two models share an alias.
    """
    warnings = _check_version(document)
    values: dict[str, Value] = {}
    for path, content in _leaves(document):
        known = {key.path: key for key in (model_keys(path[1]) if path[0] == MODELS else keys())}
        key = known.get(path)
        if key is None:
            siblings = [each.path[-1] for each in known.values() if each.path[:-1] == path[:-1]]
            hint = nearest(path[-1], siblings or [*SECTIONS, MODELS])
            warnings.append(f"{document.place(path)}: {'.'.join(path)} is no setting{hint}; it is kept and not used")
            continue
        try:
            values[key.name] = Value(key, key.convert(content), Layer.FILE, document.place(path))
        except SettingsError as error:
            remedy = f"correct it, or run `omlx config unset {key.name}`"
            raise SettingsError(f"{document.place(path)}: {error}; {remedy}") from None
    _check_aliases(values.values())
    return values, warnings


def flag_of(key: Key) -> str:
    """The option of `omlx serve` for this setting."""
    name = key.variable.removeprefix("OMLX_").lower().replace("_", "-")
    return "--" + (name.removesuffix("s") if key.is_list else name)


def _leaves(document: Document) -> Iterator[tuple[KeyPath, Json]]:
    """Paths as long as a setting's, whether there is one of that name or not."""
    for name, section in document.content.items():
        if name in ("version", "$schema"):
            continue
        if name not in (*SECTIONS, MODELS):
            yield (name,), section
            continue
        for inner_name, inner in _object(document, (name,), section).items():
            if name != MODELS:
                yield (name, inner_name), inner
                continue
            path = (name, inner_name)
            for field_name, value in _object(document, path, inner).items():
                yield (*path, field_name), value


def _object(document: Document, path: KeyPath, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise SettingsError(f"{document.place(path)}: {'.'.join(path)} is {value!r} where an object {{…}} belongs")
    return value


def _check_version(document: Document) -> list[str]:
    version = document.content.get("version", FILE_VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SettingsError(f"{document.place(('version',))}: version is {version!r}; write {FILE_VERSION}")
    if version > FILE_VERSION:
        reason = f"it has version {version}, and this omlx knows version {FILE_VERSION}"
        return [f"{document.path}: a newer omlx wrote this file: {reason}; what is new in it is kept and not used"]
    return []


def _check_aliases(values: Iterable[Value]) -> None:
    taken: dict[Json, Value] = {}
    for value in values:
        if value.key.path[0] == MODELS and value.key.path[-1] == "alias" and value.value is not None:
            other = taken.setdefault(value.value, value)
            if other is not value:
                raise SettingsError(
                    f"{value.place}: the alias {value.value!r} is {other.key.path[1]}'s already; choose another"
                )


def _from_variable(key: Key, text: str) -> Json:
    try:
        return key.parse(text)
    except SettingsError as error:
        raise SettingsError(f"the variable {key.variable}: {error}; correct or unset it") from None


def _from_flag(key: Key, given: Json) -> Json:
    try:
        return key.parse(given) if isinstance(given, str) else key.convert(given)
    except SettingsError as error:
        raise SettingsError(f"{flag_of(key)}: {error}") from None


def _slips(environ: Mapping[str, str]) -> Iterator[str]:
    known = [*(key.variable for key in keys()), *_OTHER_VARIABLES]
    for name in sorted(environ):
        hint = nearest(name, known, _NEAR) if name.startswith("OMLX_") and name not in known else ""
        if hint:
            yield f"the variable {name} means nothing{hint}"
