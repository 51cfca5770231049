"""A request into the tokens of its prompt.

The prompt of a turn is a prefix of the next turn's wherever the template writes the same text: the text
is cut before every answer, so that what a model wrote is encoded apart from what asked for it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest, OmlxError
from ..requests import GenerationRequest, Json, ReasoningOptions, Role
from .chat_template import RESERVED_OPTIONS, Conversation, Rendered, Template, TemplateMessage, Wanted
from .conversation import build_conversation, clean_tool
from .template_traits import TemplateTraits
from .tokenizer import MARK, Encoded, Tokenizer
from .tool_text import tool_schema

_STAND_IN = "\ue0f8"
"""Stands for a user message whose text does not matter."""

_OPEN_REASONING = re.compile(r"(?:<[\w:|]*think[\w:|]*>|\[THINK\]|<\|START_THINKING\|>|<\|channel>thought)\s*$")

_KEEPS_REASONING: dict[str, Json] = {
    "clear_thinking": False,
    "preserve_thinking": True,
    "drop_thinking": False,
    "truncate_history_thinking": False,
    "keep_past_thinking": True,
}
"""What templates call the choice to keep the thinking of earlier turns, set so that they keep it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`boundaries` are ascending positions where later requests are likely to part from this one: after
    system and tools, before the last user message, before and after the opening of the answer.

    `opens_reasoning`: the template has opened the thinking, so the answer starts inside it.
    """

    token_ids: list[int]
    boundaries: list[int]
    opens_reasoning: bool = False


class Renderer:
    """Renders requests for one model: its template, what the template can do, its tokenizer."""

    def __init__(self, template: Template, tokenizer: Tokenizer, traits: TemplateTraits) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.traits = traits

    def render(
        self, request: GenerationRequest, window: int | None = None, go_on: Callable[[], bool] = lambda: True
    ) -> Prompt:
        """Raises `InvalidRequest` when there is nothing to answer or the template refuses, `UnsupportedModel` where it
        does what no template may, and `ContextOverflow` where a long text cannot fit `window` tokens; then it is not
        encoded to its end. `go_on` is asked meanwhile whether somebody waits for it still."""
        if not request.messages:
            raise InvalidRequest(
                "messages holds nothing to answer; send a message with content of a kind this server knows", "messages"
            )
        return _Rendering(self, request).prompt(window, go_on)

    def count_tokens(self, request: GenerationRequest) -> int:
        return len(self.render(request).token_ids)


class _Rendering:
    """One request on its way through template and tokenizer."""

    def __init__(self, model: Renderer, request: GenerationRequest) -> None:
        self._template = model.template
        self._tokenizer = model.tokenizer
        self._scope = request.cache_salt
        self._traits = model.traits
        self._options = template_options(request, model.template.variables)
        self._tools: list[dict[str, Any]] = []
        if model.traits.renders_tools:
            listed = [tool_schema(tool) for tool in request.tools if not tool.deferred]
            self._tools = [clean_tool(tool, model.tokenizer.defuse) for tool in listed]
        self._conversation = build_conversation(request, model.traits, model.tokenizer.defuse)
        self._continues = request.messages[-1].role is Role.ASSISTANT and "tool_calls" not in self._messages[-1]

    @property
    def _messages(self) -> list[TemplateMessage]:
        return self._conversation.messages

    def prompt(self, window: int | None, go_on: Callable[[], bool]) -> Prompt:
        places = {self._conversation.num_system, self._conversation.last_user}
        wanted = [
            Wanted(len(self._messages), asks=False, opens_answer=not self._continues),
            Wanted(0, asks=True, opens_answer=True, with_tools=False),
            Wanted(0, asks=True, opens_answer=False, with_tools=False),
            *(Wanted(count, asks=True, opens_answer=False, compared=True) for count in places if count is not None),
        ]
        conversation = Conversation(self._messages, self._tools, self._options, self._stand_in())
        text, *others = self._template.renderings(conversation, wanted, go_on)
        if isinstance(text, OmlxError):
            raise text
        assert isinstance(text, str)
        if self._continues:
            text = self._left_open(text)
        # A prompt is a prompt without one of its boundaries too.
        opening = _added(*others[:2])
        ends = [min(common, len(text)) for common in others[2:] if isinstance(common, int)]
        if opening and text.endswith(opening):
            ends.append(len(text) - len(opening))
        ends.sort()
        marked, ends = _with_cuts(text, opening, ends) if self._tokenizer.encodes_in_pieces else (text, ends)
        encoded = self._tokenizer.encode_with_starts(marked, window, self._scope)
        if not encoded.token_ids:
            raise InvalidRequest("the prompt is empty: the chat template made no text of the messages", "messages")
        boundaries = {self._token_boundary(encoded, end) for end in ends} | {len(encoded.token_ids)}
        return Prompt(encoded.token_ids, sorted(boundaries - {0}), bool(_OPEN_REASONING.search(text[-64:])))

    def _left_open(self, text: str) -> str:
        """The last message is the answer's beginning: the text up to its end."""
        content = self._messages[-1]["content"]
        if isinstance(content, list):
            content = content[0]["text"]
        written = content.strip()
        num_after = text[::-1].find(written[::-1])  # `rfind` takes time with the product of both lengths
        return text[: len(text) - num_after] if written and num_after >= 0 else text

    def _token_boundary(self, encoded: Encoded, position: int) -> int:
        """The last place at or before `position` where the encoding is sure not to depend on what follows."""
        count = bisect_left(encoded.starts, position)
        control = self._tokenizer.control_id_set
        for index in range(count, 0, -1):
            if index < len(encoded.token_ids) and encoded.token_ids[index] in control:
                return index
            if encoded.token_ids[index - 1] in control:
                return index
        return max(count - 1, 0)

    def _stand_in(self) -> TemplateMessage:
        content = [{"type": "text", "text": _STAND_IN}] if self._traits.content_as_parts else _STAND_IN
        return {"role": "user", "content": content}


def template_options(request: GenerationRequest, variables: frozenset[str]) -> dict[str, Any]:
    """What the template is told beside messages and tools: only names that it reads, and the client's own."""
    for name in request.template_options:
        if name in RESERVED_OPTIONS or name.endswith("_token"):
            raise InvalidRequest(f"{name} is not the client's to set", f"chat_template_kwargs.{name}")
    known = {**_KEEPS_REASONING, **_reasoning_options(request.reasoning)}
    return {**{name: value for name, value in known.items() if name in variables}, **request.template_options}


def _reasoning_options(reasoning: ReasoningOptions) -> Mapping[str, Json]:
    options: dict[str, Json] = {}
    if reasoning.enabled is not None:
        options |= {"enable_thinking": reasoning.enabled, "thinking": reasoning.enabled}
    if reasoning.effort is not None:
        options["reasoning_effort"] = reasoning.effort
    if reasoning.budget_tokens is not None:
        options["thinking_budget"] = reasoning.budget_tokens
    return options


def _added(opened: Rendered, closed: Rendered) -> str:
    """What the template writes for the model to go on from."""
    if isinstance(opened, str) and isinstance(closed, str) and opened.startswith(closed):
        return opened[len(closed) :]
    return ""


def _with_cuts(text: str, opening: str, positions: list[int]) -> tuple[str, list[int]]:
    """The text with a cut after each opening of an answer, and the positions moved along."""
    if not opening.strip():
        return text, positions
    moved = [position + text.count(opening, 0, position) * len(MARK) for position in positions]
    return text.replace(opening, opening + MARK), moved
