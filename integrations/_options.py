"""Options that the user gave the agent and that ours would displace."""

from __future__ import annotations

import json
import re

from .spec import Refusal, Surroundings


def taken_option(arguments: tuple[str, ...], name: str) -> tuple[str | None, tuple[str, ...]]:
    """The value of the last `name VALUE` or `name=VALUE` before a `--`, and the arguments without any of them."""
    value: str | None = None
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            rest += [argument, *remaining]
            break
        if argument == name and remaining:
            value = remaining.pop(0)
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, tuple(rest)


def json_object(value: str | None, surroundings: Surroundings) -> dict[str, object]:
    """A JSON object given inline or as the path of a file; None is an empty one.

    Raises Refusal where it is neither.
    """
    if value is None:
        return {}
    text = value if value.lstrip().startswith("{") else surroundings.read(surroundings.directory / value)
    if text is None:
        raise Refusal(f"there is no plain file {value}")
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise Refusal(f"{value} does not parse as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise Refusal(f"{value} is no JSON object")
    return parsed


_TEXT = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_TEXT_OR_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TEXT_OR_LAST_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])")
_TEXT_OR_NAME = re.compile(rf"{_TEXT}|([A-Za-z_$][\w$]*)(?=\s*:)")


def _quoted(found: re.Match[str]) -> str:
    text, name = found.groups()
    return text if text and text[0] == '"' else json.dumps(name or text[1:-1])


def lenient_object(text: str | None) -> dict[str, object]:
    """The object in a settings file that may have comments, last commas, bare names and single quotes.

    Empty where it is none or does not parse. For looking only: what is wrong with a file its agent says itself.
    """
    plain = _TEXT_OR_LAST_COMMA.sub(r"\1", _TEXT_OR_COMMENT.sub(r"\1", text or "{}"))
    try:
        parsed = json.loads(_TEXT_OR_NAME.sub(_quoted, plain))
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def object_at(parent: dict[str, object], key: str) -> dict[str, object]:
    """The object under `key`, or an empty one where there is none or something else."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
