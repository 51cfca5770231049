"""Taking over the settings of the public oMLX."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import SettingsError
from .document import Document, locked, read_document, write_document
from .layers import read_values
from .public_files import Translation, is_public, translate, translate_models

SERVER_FILE, MODEL_FILE = "settings.json", "model_settings.json"


def import_public(source: Path, target: Path, known_ids: Sequence[str] = (), write: bool = True) -> Translation:
    """Take what omlx knows of `source`, one of the two files or their folder, into the settings file `target`.

    What is set in `target` already is replaced where `source` sets it too. Where `target` itself is the public
    file, a copy of it stays beside. `known_ids` are our names for the models. Raises `SettingsError`.
    """
    sources = [source]
    if source.is_dir():
        sources = [source / name for name in (SERVER_FILE, MODEL_FILE) if (source / name).is_file()]
    if not sources or not all(path.is_file() for path in sources):
        raise SettingsError(f"{source}: no {SERVER_FILE} and no {MODEL_FILE} there; name one, or their folder")
    documents = [read_document(path) for path in sources]
    with locked(target) if write else contextlib.nullcontext():
        merged = Translation(_own(target, sources), (), ())
        for document in documents:
            merged = _merged(merged, document, known_ids)
        read_values(merged.document)
        if write:
            if is_public(read_document(target)):
                _keep_copy(target)
            write_document(merged.document)
    return merged


def _merged(before: Translation, document: Document, known_ids: Sequence[str]) -> Translation:
    if is_public(document):
        found = translate(document, before.document)
    elif document.path.name == SERVER_FILE:
        raise SettingsError(f'{document.path}: the public oMLX did not write this: its version would be a text, "1.0"')
    else:
        found = translate_models(document, before.document, known_ids)
    return Translation(found.document, before.taken + found.taken, before.left + found.left)


def _own(target: Path, sources: Sequence[Path]) -> Document:
    """Our own file as it is; an empty one where the public file that is imported stands in its place."""
    document = read_document(target)
    if not is_public(document):
        return document
    if not any(path.resolve() == target.resolve() for path in sources):
        raise SettingsError(f"{target} is the public oMLX's; `omlx config import {target.parent}` takes it over first")
    return Document(target)


def _keep_copy(path: Path) -> None:
    copy = path.with_name(f"{path.name}.public")
    try:
        with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file, open(path, "rb") as old:
            shutil.copyfileobj(old, file)
    except FileExistsError:
        raise SettingsError(f"{copy} exists already; move it away, it may be the only copy") from None
    except OSError as error:
        raise SettingsError(f"{copy}: cannot be written ({error.strerror or error}); nothing was changed") from None
