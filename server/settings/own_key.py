"""The key that the server's environment holds, as clients can send it."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import SettingsError

KEY_VARIABLE = "OMLX_API_KEY"


def own_key(environ: Mapping[str, str]) -> str:
    """That of OMLX_API_KEY, without the end of its line; "" where it is empty or not set.

    Raises `SettingsError`, which does not quote it, for one that no header can carry.
    """
    given = environ.get(KEY_VARIABLE, "")
    key = given.removesuffix("\n").removesuffix("\r")
    fault = _fault(key) if given else ""
    if fault:
        raise SettingsError(
            f"{KEY_VARIABLE} {fault}, so no client could send it; set it to a key of ASCII letters, digits and signs, "
            "or unset it and make keys with `omlx key new NAME`"
        )
    return key


def _fault(key: str) -> str:
    """The launcher refuses to send the same ones."""
    if not key.strip():
        return "is blank"
    if not key.isascii():
        return "holds characters that are not ASCII"
    if not key.isprintable():
        return "holds control characters"
    return "begins or ends with a space" if key != key.strip() else ""
