"""A model's chat template: compiled once, rendered for every request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jinja2
from jinja2 import meta
from jinja2.exceptions import SecurityError

from ..common_prefix import common_prefix
from ..errors import InvalidRequest, OmlxError, UnsupportedModel
from .template_environment import TemplateRefusal, template_environment

TemplateMessage = dict[str, Any]
"""A message as templates read it: the keys are the template's convention, not ours."""

Rendered: TypeAlias = str | int | OmlxError
"""A text or, where only that is wanted, how much of it is the first one's; or why there is none."""

RESERVED_OPTIONS = frozenset({"messages", "tools", "add_generation_prompt", "chat_template", "documents"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request's texts are rendered of. `stand_in` is a user message whose text does not matter."""

    messages: Sequence[TemplateMessage]
    tools: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    stand_in: TemplateMessage


@dataclass(frozen=True, slots=True)
class Wanted:
    """One text of a conversation: of its first `num_messages`, and of the stand-in behind them where it `asks`.

    `compared`, it is only to say how many characters it has in common with the first text, from their beginnings.
    """

    num_messages: int
    asks: bool
    opens_answer: bool
    with_tools: bool = True
    compared: bool = False


class Template(Protocol):
    """A chat template as requests need it, wherever it is rendered. `variables` are the names that it reads from
    outside."""

    @property
    def source(self) -> str: ...

    @property
    def variables(self) -> frozenset[str]: ...

    def renderings(
        self, conversation: Conversation, wanted: Sequence[Wanted], go_on: Callable[[], bool]
    ) -> Iterator[Rendered]:
        """The wanted texts, in their order; `go_on` is asked meanwhile whether somebody waits for them still."""
        ...


class ChatTemplate:
    """Renders messages to text. `variables` are the names the template reads from outside.

    `tokens` are the tokenizer's named tokens (`bos_token`, `eos_token`, …), which templates write themselves.
    """

    def __init__(self, source: str, tokens: Mapping[str, str] | None = None) -> None:
        environment = template_environment()
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        except jinja2.TemplateSyntaxError as error:
            raise UnsupportedModel(
                f"the chat template does not compile, line {error.lineno}: {error.message}"
            ) from error
        self.source = source
        self._tokens = dict(tokens or {})
        self._no_tools: list[Any] | None = None
        if self._iterates_no_tools():
            self._no_tools = []

    def render(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Raises `InvalidRequest` with the template's words when it refuses the conversation, and `UnsupportedModel`
        where it does what no template may."""
        values = {**self._tokens, **(options or {}), "add_generation_prompt": add_generation_prompt}
        values["tools"] = list(tools) or self._no_tools
        try:
            return self._template.render(messages=list(messages), **values)
        except SecurityError as error:
            raise UnsupportedModel(f"the chat template does what templates may not do: {error}") from error
        except TemplateRefusal as error:
            raise InvalidRequest(f"the model's chat template refuses this conversation: {error}", "messages") from error
        except MemoryError as error:
            raise UnsupportedModel("the chat template takes more memory than there is") from error
        except Exception as error:  # a template is a program: it can fail in any way a program can
            words = f"{type(error).__name__}: {error}"
            raise InvalidRequest(
                f"the model's chat template fails on this conversation: {words}", "messages"
            ) from error

    def renderings(
        self, conversation: Conversation, wanted: Sequence[Wanted], go_on: Callable[[], bool]
    ) -> Iterator[Rendered]:
        """See `Template`; nothing stops it."""
        del go_on
        first: str | None = None
        for one in wanted:
            messages = [*conversation.messages[: one.num_messages], *([conversation.stand_in] if one.asks else ())]
            tools = conversation.tools if one.with_tools else ()
            try:
                text = self.render(messages, tools, one.opens_answer, conversation.options)
            except (InvalidRequest, UnsupportedModel) as error:
                yield error
            else:
                first = text if first is None else first
                yield common_prefix(first, text) if one.compared else text

    def _iterates_no_tools(self) -> bool:
        """`None` says "no tools" to most templates; some only know the empty list."""
        try:
            self.render([{"role": "user", "content": "."}])
        except InvalidRequest as error:
            return isinstance(error.__cause__, TypeError)
        except UnsupportedModel:
            return False
        return False
