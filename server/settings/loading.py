"""From the settings file, whoever wrote it, to a document of ours."""

from __future__ import annotations

from pathlib import Path

from .document import Document, read_document
from .public_files import is_public, translate


def load_document(path: Path) -> tuple[Document, tuple[str, ...]]:
    """The document, and warnings. The public oMLX keeps its settings under the same name: they are read as such.

    Raises `SettingsError`.
    """
    document = read_document(path)
    if not is_public(document):
        return document, ()
    translation = translate(document)
    warning = (
        f"{path}: the public oMLX wrote this file; {len(translation.taken)} of its settings are used, "
        f"{len(translation.left)} are not. `omlx config import {path}` lists them and makes the file ours"
    )
    return translation.document, (warning,)
