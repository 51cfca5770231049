"""A request's messages in the form a chat template takes, with their order kept.

What moves a byte before the last turn costs the whole prompt cache, so nothing is hoisted, trimmed or
renumbered by what comes later: the messages of a turn render alike in every later turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ..requests import (
    GenerationRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolDefinition,
    ToolReference,
    ToolResult,
)
from .chat_template import TemplateMessage
from .template_traits import TemplateTraits
from .tool_text import call_text, canonical_json, parsed_arguments, references_text, result_text, tools_section

_IMAGE_NOTE = "[An image stood here. This model reads text only.]"
_SYSTEM_ROLES = (Role.SYSTEM, Role.DEVELOPER)


@dataclass(slots=True)
class Conversation:
    """`messages` as the template takes them; the first `num_system` are the system's."""

    messages: list[TemplateMessage] = field(default_factory=list)
    num_system: int = 0

    @property
    def last_user(self) -> int | None:
        """Where the last user message stands."""
        for index in reversed(range(len(self.messages))):
            if self.messages[index]["role"] == "user":
                return index
        return None


def build_conversation(
    request: GenerationRequest, traits: TemplateTraits, clean: Callable[[str], str] = str
) -> Conversation:
    """`clean` is applied to every text of the client's (`Tokenizer.defuse`)."""
    return _Builder(request, traits, clean).build()


class _Builder:
    def __init__(self, request: GenerationRequest, traits: TemplateTraits, clean: Callable[[str], str]) -> None:
        self._request = request
        self._traits = traits
        self._clean = clean
        self._tools: dict[str, ToolDefinition] = {tool.name: tool for tool in request.tools}
        self._conversation = Conversation()
        self._messages = self._conversation.messages
        self._calls: dict[str, dict[str, Any]] = {}
        self._num_calls = 0
        self._pending_prefix = ""

    def build(self) -> Conversation:
        rest = self._lead(self._request.messages)
        for assistant, group in groupby(rest, lambda message: message.role is Role.ASSISTANT):
            if assistant:
                for parts in _assistant_turns(group):
                    self._assistant(parts)
            else:
                for message in group:
                    self._other(message)
        if self._pending_prefix:
            self._user("")
        if self._traits.content_as_parts:
            for message in self._messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
        return self._conversation

    def _lead(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Write the leading run of system messages as one, with the tools where the template has no room."""
        count = 0
        while count < len(messages) and messages[count].role in _SYSTEM_ROLES:
            count += 1
        texts = [self._clean(message.text) for message in messages[:count]]
        listed = [tool for tool in self._request.tools if not tool.deferred]
        if listed and not self._traits.renders_tools:
            texts.append(self._clean(tools_section(listed)))
        system = "\n\n".join(text for text in texts if text)
        if system and self._traits.system:
            self._messages.append({"role": "system", "content": system})
            self._conversation.num_system = 1
        elif system:
            self._pending_prefix = system + "\n\n"
        return messages[count:]

    def _other(self, message: Message) -> None:
        if message.role in _SYSTEM_ROLES:
            self._later_system(self._clean(message.text))
            return
        if not message.parts:
            self._user("")
        has_results = any(isinstance(part, ToolResult) for part in message.parts)
        for is_result, parts in groupby(message.parts, lambda part: isinstance(part, ToolResult)):
            if is_result:
                for part in parts:
                    assert isinstance(part, ToolResult)
                    self._result(part)
            else:
                self._user(self._text(parts), is_aside=has_results)

    def _later_system(self, text: str) -> None:
        if self._traits.system_anywhere:
            self._messages.append({"role": "system", "content": text})
        else:
            self._user(f"<system-reminder>\n{text}\n</system-reminder>", is_aside=True)

    def _user(self, text: str, is_aside: bool = False) -> None:
        """A user message, joined to the message before where the template takes no two in a row.

        An aside is what a client says beside tool results, not a turn of the user's: after a result it is
        joined to that, where a user message would take the reasoning out of the turn that goes on.
        """
        text, self._pending_prefix = self._pending_prefix + text, ""
        last = self._messages[-1] if self._messages else {"role": ""}
        joins_user = last["role"] == "user" and not self._traits.consecutive_users
        joins_result = last["role"] == "tool" and (
            not self._traits.user_after_result or (is_aside and self._traits.user_drops_reasoning)
        )
        if joins_user or joins_result:
            last["content"] += "\n\n" + text
        else:
            self._messages.append({"role": "user", "content": text})

    def _result(self, result: ToolResult) -> None:
        text = self._text(result.parts)
        if not self._traits.renders_calls:
            self._user(result_text(text))
            return
        call = self._calls.get(_plain_id(result.call_id))
        name = call["function"]["name"] if call else result.name
        call_id = call["id"] if call else self._next_id(name)
        message = {"role": "tool", "content": text, "tool_call_id": call_id, "name": name}
        if call is not None and not self._traits.parallel_calls:
            self._messages.insert(self._after_call(call), message)
        else:
            self._messages.append(message)

    def _after_call(self, call: dict[str, Any]) -> int:
        """Where templates that know one call a message find its result: right after it."""
        for index in reversed(range(len(self._messages))):
            if call in self._messages[index].get("tool_calls", ()):
                return index + 1
        return len(self._messages)

    def _assistant(self, parts: tuple[Part, ...]) -> None:
        if self._pending_prefix:
            self._user("")
        message: TemplateMessage = {"role": "assistant", "content": self._text(parts)}
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if not self._traits.renders_calls:
            texts = [message["content"], *(self._clean(call_text(c.name, parsed_arguments(c))) for c in calls)]
            message["content"] = "\n".join(text for text in texts if text)
            calls = []
        reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
        if reasoning and self._traits.reasoning_field:
            message[self._traits.reasoning_field] = self._clean(reasoning)
            if calls and message["content"] and not self._traits.text_beside_reasoned_call:
                self._append_answer({"role": "assistant", "content": message["content"]})
                message["content"] = ""
        rendered = [self._call(call) for call in calls]
        groups = [rendered] if self._traits.parallel_calls else [[call] for call in rendered]
        for group in groups or [[]]:
            self._append_answer({**message, "tool_calls": group} if group else message)
            message = {"role": "assistant", "content": ""}

    def _append_answer(self, message: TemplateMessage) -> None:
        """Joins it to an answer right before it where turns must alternate."""
        last = self._messages[-1] if self._messages else {"role": ""}
        if last["role"] == "assistant" and "tool_calls" not in last and not self._traits.consecutive_users:
            message["content"] = "\n\n".join(text for text in (last["content"], message["content"]) if text)
            self._messages.pop()
        self._messages.append(message)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        arguments = _cleaned(parsed_arguments(call), self._clean)
        function = {
            "name": self._clean(call.name),
            "arguments": canonical_json(arguments) if self._traits.arguments_as_text else arguments,
        }
        rendered = {"id": self._next_id(call.name), "type": "function", "function": function}
        self._calls[_plain_id(call.call_id)] = rendered
        return rendered

    def _next_id(self, name: str) -> str:
        """Ids by position: some clients change the ids they were given, and some templates print them."""
        number = self._num_calls
        self._num_calls += 1
        return f"functions.{name}:{number}" if self._traits.numbers_calls else f"call{number:05d}"

    def _text(self, parts: Iterable[Part | ToolReference]) -> str:
        texts: list[str] = []
        for is_reference, group in groupby(parts, lambda part: isinstance(part, ToolReference)):
            if is_reference:
                names = [part.name for part in group if isinstance(part, ToolReference)]
                texts.append(references_text(names, self._tools))
            else:
                texts += [part.text if isinstance(part, Text) else _IMAGE_NOTE for part in group if _is_shown(part)]
        return self._clean("\n".join(texts))


def clean_tool(schema: dict[str, Any], clean: Callable[[str], str]) -> dict[str, Any]:
    """A tool's schema with every text in it cleaned."""
    return _cleaned(schema, clean)


def _is_shown(part: Part | ToolReference) -> bool:
    return isinstance(part, Text | Image)


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return value


def _plain_id(call_id: str) -> str:
    """Some clients strip `_` and `-` from ids; calls are matched to results without them."""
    return call_id.replace("_", "").replace("-", "")


def _assistant_turns(messages: Iterable[Message]) -> Iterable[tuple[Part, ...]]:
    """Adjacent assistant messages joined while they keep to thinking, then text, then calls.

    Some protocols send these as separate items of one turn.
    """
    turn: list[Part] = []
    for message in messages:
        if turn and message.parts and _rank(message.parts[0]) < _rank(turn[-1]):
            yield tuple(turn)
            turn = []
        turn += message.parts
    yield tuple(turn)


def _rank(part: Part) -> int:
    return 0 if isinstance(part, Reasoning) else 2 if isinstance(part, ToolCall) else 1
