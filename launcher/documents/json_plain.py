"""A second, independent reader of JSON, JSONC and JSON5: it rewrites tokens to plain JSON and lets `json` read that.

It checks the editor's results and shares no code with it. It is lax where the strict reader has already been strict.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"(?P<blank>\s+|\ufeff|//[^\n\r\u2028\u2029]*|/\*.*?\*/)"
    r"|(?P<text>\"(?:[^\"\\]++|\\.)*+\"|'(?:[^'\\]++|\\.)*+')"
    r"|(?P<mark>[{}\[\]:,])"
    r"|(?P<word>[^\s\ufeff{}\[\]:,\"'/]+)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(\r\n|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\r\n": "", "\n": "", "\r": ""}
_SIMPLE |= {"\u2028": "", "\u2029": ""}


def read_plain(text: str) -> Any:
    """The text's value, or ValueError. A text of blanks and comments only is an empty object."""
    tokens: list[str] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"no token at {position}")
        position = found.end()
        if found.lastgroup == "blank":
            continue
        token = found.group()
        if token in "}]" and tokens and tokens[-1] == ",":
            tokens.pop()
        tokens.append(token if found.lastgroup == "mark" else _plain(token, found.lastgroup == "text"))
    if not tokens:
        return {}
    keys = [index for index in range(len(tokens) - 1) if tokens[index + 1] == ":" and not tokens[index].startswith('"')]
    for index in keys:
        tokens[index] = json.dumps(tokens[index].removeprefix("\0"))
    return json.loads("".join(token.removeprefix("\0") for token in tokens), object_pairs_hook=_once)


def _plain(token: str, quoted: bool) -> str:
    if quoted:
        return json.dumps(_ESCAPE.sub(_unescape, token[1:-1]))
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", token):
        return str(int(token, 16))
    if re.match(r"[+-]?[.0-9]", token):
        return _plain_number(token)
    if token.lstrip("+-") in ("Infinity", "NaN"):
        return token.removeprefix("+").removeprefix("-" if token == "-NaN" else "")
    return "\0" + _ESCAPE.sub(_unescape, token)


def _plain_number(token: str) -> str:
    sign = "-" if token.startswith("-") else ""
    whole, dot, rest = token.lstrip("+-").partition(".")
    if not dot:
        return sign + whole
    digits, mark, exponent = re.fullmatch(r"([0-9]*)([eE]?)(.*)", rest).groups()  # pyright: ignore
    return f"{sign}{whole or '0'}.{digits or '0'}{mark}{exponent}"


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "xu" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _SIMPLE.get(code, code)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values
