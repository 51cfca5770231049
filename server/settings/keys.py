"""The names of the settings: `server.port`, `cache.folder`, `models.ID.max_tokens`; what they take and mean."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec

from ..errors import SettingsError
from ..requests import Json
from .values import CacheSettings, EngineSettings, ModelSettings, ServerSettings

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerSettings,
    "cache": CacheSettings,
    "engine": EngineSettings,
}
MODELS = "models"

_PATTERN = re.compile(r"matching regex '(.*)'")
_TYPE = re.compile(r"`(\w+)(?: \| null)?`(?:, got `\w+`)?")
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "array": "a list"}
_NAMES = re.compile(r"\^\(([a-z0-9_|]+)\)")


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `path` leads to it in the file; `variable` is its environment variable, "" for a model's."""

    path: tuple[str, ...]
    type: Any
    default: Json
    description: str
    variable: str = ""

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def is_list(self) -> bool:
        return isinstance(self.default, list)

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that it takes, where it takes nothing else."""
        names = _NAMES.search(str(self.type))
        return tuple(names[1].split("|")) if names else ()

    def convert(self, value: object, strict: bool = True) -> Json:
        """`value`, checked. Raises `SettingsError` with the fact only; the caller knows where it stands."""
        try:
            converted = msgspec.convert(value, self.type, strict=strict)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{self.name} is {value!r}: {_expectation(str(error))}") from None
        try:
            return msgspec.json.decode(msgspec.json.encode(converted))
        except UnicodeEncodeError:
            raise SettingsError(f"{self.name} is {value!r}: it holds what is no Unicode text") from None

    def parse(self, text: str) -> Json:
        """The value that a variable or an argument spells: JSON, or the plain text. Raises `SettingsError`."""
        try:
            return self.convert(msgspec.json.decode(text))
        except (msgspec.DecodeError, SettingsError):
            pass  # it is no JSON of this key's; the text itself may be
        if self.is_list:
            return self.convert([part for part in text.split(os.pathsep) if part])
        return self.convert(text, strict=False)


@functools.cache
def _members(struct: type[msgspec.Struct]) -> list[tuple[str, Any, bytes]]:
    """The names, types and defaults, as JSON, of what the struct holds; its annotations are texts, evaluated once."""
    hints = get_type_hints(struct, include_extras=True)
    return [
        (field.name, hints[field.name], msgspec.json.encode(field.default)) for field in msgspec.structs.fields(struct)
    ]


def _fields(path: tuple[str, ...], struct: type[msgspec.Struct]) -> list[Key]:
    return [
        Key(
            (*path, name),
            type_,
            msgspec.json.decode(default),
            _description(type_),
            "" if path[0] == MODELS else _variable(path[0], name),
        )
        for name, type_, default in _members(struct)
    ]


def keys() -> list[Key]:
    """The settings that are no model's, in the order of the file."""
    return [key for section, struct in SECTIONS.items() for key in _fields((section,), struct)]


def model_keys(model_id: str) -> list[Key]:
    return _fields((MODELS, model_id), ModelSettings)


def find_key(name: str) -> Key:
    """The key of a dotted name; a model's id may hold dots. Raises `SettingsError` with the nearest known name."""
    section, _, rest = name.partition(".")
    model_id = rest.rpartition(".")[0]
    candidates = model_keys(model_id) if section == MODELS and model_id else keys()
    found = next((key for key in candidates if key.name == name), None)
    if found is None:
        hint = nearest(name, [key.name for key in candidates])
        raise SettingsError(f"{name} is no setting{hint}. `omlx config show` lists them")
    return found


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """` (did you mean …?)` where a known name is near, else nothing."""
    found = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f" (did you mean {found[0]}?)" if found else ""


def _variable(section: str, field: str) -> str:
    return f"OMLX_{'CACHE_' if section == 'cache' else ''}{field}".upper()


def _description(hint: Any) -> str:
    texts = [meta.description for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta) and meta.description]
    assert texts, "every setting says what it is"
    return texts[-1]


def _expectation(message: str) -> str:
    """msgspec's message, with a pattern of ours in words."""
    pattern = _PATTERN.search(message)
    if pattern is None:
        return _TYPE.sub(lambda found: _WORDS.get(found[1], found[0]), message[:1].lower() + message[1:])
    names = _NAMES.match(pattern.group(1))
    if names:
        return f"expected one of {names.group(1).replace('|', ', ')}"
    if "[KMGT]" in pattern.group(1):
        return "expected bytes, as a number or like 50GB"
    return "expected a name: printable text without spaces around it"
