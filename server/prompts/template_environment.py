"""The Jinja environment that chat templates are written for, closed against what a template can do to its host.

Templates are untrusted: they come with the weights. Beside Jinja's immutable sandbox, the operations that
make huge values out of small ones are refused, and a rendering has `LONGEST_SECONDS`. An endless nest of loops that
looks at nothing is not caught here, but by `template_lint`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from time import thread_time
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST_SECONDS = 30.0
"""Of computing, for one rendering. Some templates go through all messages for each: a thousand then take seconds."""
_CHECKS_PER_LOOK = 64
"""The time that a thread has computed for is dear to ask for."""
_MAX_REPEATED = 100_000
_MAX_EXPONENT = 64
_PADDING_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_LIST_METHODS = frozenset({"append", "extend", "insert", "pop"})
"""Kimi K2's and DeepSeek's templates collect messages with them. The lists are made for one rendering."""
_WIDE_FIELD = re.compile(r"\d{5,}|%[^a-zA-Z%]*\*|\{[^}]*\{")


class TemplateRefusal(jinja2.TemplateError):
    """`raise_exception` of the template: the conversation is not one it renders."""


class TemplateTimeout(jinja2.TemplateError):
    """The rendering has taken too long."""


class _Allowance:
    """`LONGEST_SECONDS` of this thread's computing from now on, whatever other threads compute meanwhile."""

    def __init__(self) -> None:
        self._end = thread_time() + LONGEST_SECONDS
        self._num_checks = 0

    def check(self) -> None:
        """Raises `TemplateTimeout`."""
        if self._num_checks % _CHECKS_PER_LOOK == 0 and thread_time() > self._end:
            raise TemplateTimeout(f"more than {LONGEST_SECONDS:.0f} s")
        self._num_checks += 1


_allowance: ContextVar[_Allowance | None] = ContextVar("_allowance", default=None)


@contextmanager
def limited_time() -> Iterator[None]:
    """What is rendered meanwhile, in this thread, raises `TemplateTimeout` when all of it together has taken
    `LONGEST_SECONDS`. Within another such limit, that one counts."""
    token = _allowance.set(_allowance.get() or _Allowance())
    try:
        yield
    finally:
        _allowance.reset(token)


class _GenerationTag(Extension):
    """`{% generation %}` marks text for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        _check_time()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        _check_time()
        return super().getitem(obj, argument)

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


def _check_time() -> None:
    if (allowance := _allowance.get()) is not None:
        allowance.check()


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
