"""What no document may exceed, and the error that names a place in one."""

from __future__ import annotations

from ..errors import DocumentError

MAX_DEPTH = 200
MAX_BYTES = 5_000_000


def check_size(text: str) -> None:
    """Raises DocumentError for a text that takes more bytes as UTF-8 than any agent's settings do."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES // 1_000_000} MB, which no agent's settings are", 1, 1)


def document_error(fact: str, text: str, position: int) -> DocumentError:
    """A DocumentError for this place; lines and columns count from 1."""
    before = text[:position].replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    return DocumentError(fact, before.count("\n") + 1, len(before) - before.rfind("\n"))
