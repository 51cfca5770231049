"""The settings of single models, in force from the next request on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..errors import SettingsError
from ..requests import Json
from .document import Document, locked, write_document
from .keys import MODELS, find_key
from .layers import read_values
from .loading import load_document
from .values import ModelSettings

logger = logging.getLogger(__name__)

_DEFAULTS = ModelSettings()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    stamp: tuple[int, int, int] | None = None
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


class ModelSettingsStore:
    """Reads settings.json, anew whenever it has changed, and writes to it. Any thread may read.

    A file that has become invalid is logged once, and the settings that were in force stay.
    """

    def __init__(self, path: Path) -> None:
        """Raises `SettingsError` where the file cannot be used."""
        self._path = path
        self._snapshot = self._read(_stamp(path))

    def get(self, model_id: str) -> ModelSettings:
        """The settings of a model, all defaults where it has none."""
        return self._current().models.get(model_id, _DEFAULTS)

    @property
    def configured(self) -> Mapping[str, ModelSettings]:
        """The models that have settings, whether these models are there or not."""
        return self._current().models

    def real_name(self, name: str) -> str:
        """The model that has this alias; `name` itself where none has."""
        return self._current().aliases.get(name, name)

    def change(self, model_id: str, changes: Mapping[str, Json]) -> ModelSettings:
        """Write these settings of a model; `None` unsets one. They hold from the next request on.

        All or nothing. Raises `SettingsError` for an unknown name, a value that does not fit, an alias that is
        taken, and a file that cannot be written.
        """
        with locked(self._path):
            document, _ = load_for_writing(self._path)
            for name, value in changes.items():
                key = find_key(f"{MODELS}.{model_id}.{name}")
                path = key.path
                document = document.without(path) if value is None else document.changed(path, key.convert(value))
            read_values(document)
            write_document(document)
        self._snapshot = self._read(_stamp(self._path))
        return self.get(model_id)

    def _current(self) -> _Snapshot:
        stamp = _stamp(self._path)
        if stamp != self._snapshot.stamp:
            try:
                self._snapshot = self._read(stamp)
                logger.info("Read %s anew", self._path)
            except SettingsError as error:
                before = self._snapshot
                self._snapshot = _Snapshot(stamp, before.models, before.aliases)
                logger.error("The models keep the settings they had: %s", error)
        return self._snapshot

    def _read(self, stamp: tuple[int, int, int] | None) -> _Snapshot:
        document, _ = load_document(self._path)
        values, _ = read_values(document)
        fields: dict[str, dict[str, Json]] = {}
        for value in values.values():
            if value.key.path[0] == MODELS:
                _, model_id, name = value.key.path
                fields.setdefault(model_id, {})[name] = value.value
        models = {model_id: msgspec.convert(given, ModelSettings) for model_id, given in fields.items()}
        aliases = {settings.alias: model_id for model_id, settings in models.items() if settings.alias}
        return _Snapshot(stamp, models, aliases)


def load_for_writing(path: Path) -> tuple[Document, tuple[str, ...]]:
    """The document to edit. Raises `SettingsError` where the file is the public oMLX's, which stays as it is."""
    document, warnings = load_document(path)
    if warnings:
        raise SettingsError(f"{path} is the public oMLX's; `omlx config import {path}` makes it ours and keeps a copy")
    return document, warnings


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
