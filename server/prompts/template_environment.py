"""The Jinja environment that chat templates are written for, closed against what a template can do to its host.

Templates are untrusted: they come with the weights. Beside Jinja's immutable sandbox, the operations that make huge
values out of small ones are refused. Loops without an end, and texts doubled until the memory is gone, only a limit of
the system's can stop: see `template_process`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_REPEATED = 100_000
_MAX_EXPONENT = 64
_PADDING_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_LIST_METHODS = frozenset({"append", "extend", "insert", "pop"})
"""Kimi K2's and DeepSeek's templates collect messages with them. The lists are made for one rendering."""
_WIDE_FIELD = re.compile(r"\d{5,}|%[^a-zA-Z%]*\*|\{[^}]*\{")


class TemplateRefusal(jinja2.TemplateError):
    """`raise_exception` of the template: the conversation is not one it renders."""


class _GenerationTag(Extension):
    """`{% generation %}` marks text for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _PADDING_METHODS:
            return False
        if isinstance(obj, list) and attr in _LIST_METHODS:
            return True
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_width(value.__self__)
        return wrapped


def template_environment() -> jinja2.Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    for name in ("format", "center", "indent"):
        environment.filters[name] = _checked(environment.filters[name])
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as the models were trained on: no HTML escapes, characters as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _check_operation(operator: str, left: object, right: object) -> None:
    if operator == "%":
        if isinstance(left, str):
            _check_width(left)
    elif operator == "**":
        if not (_is_small(left, 10**6) and _is_small(right, _MAX_EXPONENT)):
            raise SecurityError("the template computes a power that is too large")
    else:
        for repeated, times in ((left, right), (right, left)):
            if isinstance(repeated, Sequence) and isinstance(times, int) and len(repeated) * times > _MAX_REPEATED:
                raise SecurityError("the template repeats a value too often")


def _is_small(value: object, limit: int) -> bool:
    return isinstance(value, int | float) and -limit <= value <= limit


def _check_width(form: str) -> None:
    if _WIDE_FIELD.search(str(form)):
        raise SecurityError("the template formats a field that is too wide")


def _checked(filter_function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, refusing large widths in its format string or its arguments."""

    def checked(value: Any, *args: Any, **kwargs: Any) -> Any:
        _check_width(value if filter_function.__name__ == "do_format" else "")
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, int) and not _is_small(argument, _MAX_REPEATED):
                raise SecurityError("the template pads a value too far")
        return filter_function(value, *args, **kwargs)

    return checked
