"""Which of a user's settings may be shown: what is not known to be harmless by name and shape is a secret.

A list of what secrets are called is never complete; what is asked for is a reason to show a value. In a mapping of
variables, headers or credentials a value needs a harmless name and a harmless shape; elsewhere a harmless shape is
enough, but for names that speak of keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

KEY_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|gh[oprsu]|github_pat|glpat|xox[abp]|hf|omlx)[-_][A-Za-z0-9_-]{8,}"
    r"|\b(?:AKIA[A-Z0-9]{12,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}[\w.-]*)"
    r"|(?<=Bearer )(?!\$|\{env:)[^\s\"'\\]+"
    r"|(?P<user>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"
)
# references to a key, not keys: `$VAR`, `${VAR}`, `{env:VAR}`, `{file:…}`, `!command`
REFERENCE = re.compile(r"""["']?(?:\$\{?\w+\}?|\{(?:env|file):[^}]*\}|!.*|printenv \w+|)["']?""")
PLAIN_WORDS = frozenset({"true", "false", "null", "none", "~", "oauth"})
"""What is never a secret, whatever it is called: the last is a way to log in."""
SECRET_WORDS = (
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "cred",
    "credential",
    "dsn",
    "header",
    "jwt",
    "key",
    "oauth",
    "otp",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "pwd",
    "salt",
    "secret",
    "signature",
    "token",
    "webhook",
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_RUN_TOGETHER = re.compile(
    r"(?:apikey|token|secret|passwd|password|pwd|passphrase|credentials?|cookies?)$", re.IGNORECASE
)
_MAPPINGS = frozenset(
    {"env", "environment", "variables", "vars", "headers", "header", "cookies", "secrets", "credentials"}
)
_AMOUNT = re.compile(
    r"(?:tokens?|ms|seconds|timeout|limit|window|length|size|port|count|retries|header)$", re.IGNORECASE
)
_HARMLESS_NAME = re.compile(
    r"(?:model|provider|url|host|endpoint|api_?base|region|type|source|engine|backend|version|name|id|env_?key"
    r"|key_?env(?:_?var)?)$",
    re.IGNORECASE,
)
_HARMLESS_IN_MAPPING = re.compile(r"(?:^|.*[_-])(?:model|provider|url|host|endpoint|region)", re.IGNORECASE)
_PIECE = re.compile(r"(?:v?\d{1,8}[a-zA-Z]?|[A-Za-z]{1,24}\d{0,4})")
_OUR_FILE = re.compile(r"/\S*/[0-9a-f]{12}/[\w.-]+")
"""In a folder that is named for what it contains, as `RunFile` has it; whatever the folders above are called."""
_URL = re.compile(r"[a-z]+://[\w.-]+(?::\d+)?(?:/[\w.~-]{0,24}){0,6}")
_BREAKS = re.compile(r"""[^!-~]|["'\\]""")
_SHORTEST_PIECE = 4
_OPTION = re.compile(rf"(?:{'|'.join(SECRET_WORDS)})s?[\"']?[ \t]*[=:]", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a name speaks of a secret: one of its words does, as in `SERPER_KEY`, `xAuth` or `apiKeyHelper`."""
    words = {word.lower().removesuffix("s") if len(word) > 4 else word.lower() for word in _WORD.findall(name)}
    return not words.isdisjoint(SECRET_WORDS) or bool(_RUN_TOGETHER.search(name))


def secret_values(value: Any, *, is_ours: bool = False) -> Iterator[str]:
    """The texts in a settings file's value that are not to be shown, whole and in pieces.

    With `is_ours` most of it is omlx's own, and only what stands under a name that speaks of secrets, or in a mapping
    of variables or headers, is meant.
    """
    for path, item in _scalars((), value):
        if not may_be_shown(path, item, is_ours):
            yield from _as_written(str(item))


def _scalars(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _scalars((*path, str(key)), item)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(path, item)
    else:
        yield path, value


def may_be_shown(path: tuple[str, ...], value: Any, is_ours: bool) -> bool:
    """Whether the scalar at `path` is known to be harmless; `is_ours` as in `secret_values`."""
    name = path[-1] if path else ""
    text = str(value)
    if value is None or isinstance(value, bool) or text.lower() in PLAIN_WORDS or re.fullmatch(r"\d{1,2}", text):
        return True
    if REFERENCE.fullmatch(text):
        return True
    is_number = not isinstance(value, str) or text.isdecimal()
    in_mapping = any(not _MAPPINGS.isdisjoint(map(str.lower, _WORD.findall(step))) for step in path[:-1])
    if in_mapping or any(map(is_secret_name, path)):
        if is_number:
            return bool(_AMOUNT.search(name))
        if in_mapping:
            is_known = _HARMLESS_IN_MAPPING.fullmatch(name) and not is_secret_name(name)
        else:
            is_known = _HARMLESS_NAME.search(name)
        return bool(is_known) and _has_harmless_shape(text)
    return is_number or _has_harmless_shape(text) or (is_ours and not KEY_SHAPES.search(text))


def _has_harmless_shape(text: str) -> bool:
    """Words, names of models and files, versions, addresses: nothing random in it, and no option with a secret."""
    if KEY_SHAPES.search(text) or _OPTION.search(text):
        return False
    if "://" in text:
        return bool(_URL.fullmatch(text))
    if _OUR_FILE.fullmatch(text):
        return True
    return all(_PIECE.fullmatch(piece) for piece in re.split(r"[^A-Za-z0-9]+", text) if piece)


def _as_written(text: str) -> Iterator[str]:
    """A text as it may stand in a file: whole, escaped, and where it is folded or escaped otherwise, in pieces."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield from (line.strip() for line in text.splitlines())
    yield from (piece for piece in _BREAKS.split(text) if len(piece) >= _SHORTEST_PIECE)
