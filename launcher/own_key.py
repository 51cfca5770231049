"""The key that the user's environment holds, as it can be sent."""

from __future__ import annotations

from collections.abc import Mapping

from ..integrations.spec import KEY_VARIABLE
from .errors import SecretsError


def own_key(environ: Mapping[str, str]) -> str | None:
    """That of OMLX_API_KEY, without the end of its line; None where it is empty or not set.

    Raises SecretsError, which does not quote it, for one that no header can carry.
    """
    given = environ.get(KEY_VARIABLE)
    if not given:
        return None
    key = given.removesuffix("\n").removesuffix("\r")
    fault = _fault(key)
    if fault:
        raise SecretsError(
            f"{KEY_VARIABLE} {fault}, so it cannot be sent; set it to the server's key and nothing else "
            "(`omlx key show NAME` prints one that was made here), or unset it"
        )
    return key


def _fault(key: str) -> str:
    """The server refuses to start with the same ones."""
    if not key.strip():
        return "is blank"
    if not key.isascii():
        return "holds characters that are not ASCII"
    if not key.isprintable():
        return "holds control characters"
    return "begins or ends with a space" if key != key.strip() else ""
