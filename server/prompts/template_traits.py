"""What a chat template can render, found by trying it on small conversations.

The names of model families are not asked for: a template is judged by what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest, UnsupportedModel
from .chat_template import ChatTemplate, TemplateMessage

_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_THINKS = {"enable_thinking": True, "thinking": True}
_SYSTEM, _SECOND_SYSTEM, _QUESTION, _ANSWER = "sys7em", "sys8em", "qu3stion", "an5wer"
_SECOND_QUESTION, _TOOL, _VALUE, _RESULT, _THOUGHT = "qu4stion", "t00l_name", "v4lue", "re5ult", "th0ught"
_CALL_ID = "call00001"


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """`renders_calls` covers calls and results; where a template has no room for tools, calls are written as our
    own tools section asks for them. `reasoning_field` is empty where reasoning is not read.
    """

    system: bool
    system_anywhere: bool
    consecutive_users: bool
    renders_tools: bool
    renders_calls: bool
    parallel_calls: bool
    user_after_result: bool
    arguments_as_text: bool
    content_as_parts: bool
    reasoning_field: str
    text_beside_reasoned_call: bool
    """The template takes a message that holds text, reasoning and calls together."""
    user_drops_reasoning: bool
    """A user message takes the reasoning out of the turns before it, and the cache with it."""
    numbers_calls: bool
    """Call ids are in the prompt, in the form `functions.NAME:NUMBER`."""


def probe(template: ChatTemplate) -> TemplateTraits:
    """Raises `UnsupportedModel` when the template renders not even one user message."""
    parts = not _shows(template, [_user(_QUESTION)], _QUESTION)
    if parts and not _shows(template, [_user([{"type": "text", "text": _QUESTION}])], _QUESTION):
        raise UnsupportedModel("the chat template does not render a single user message")

    def shows(messages: Sequence[TemplateMessage], *words: str, **given: Any) -> bool:
        return _shows(template, [_as_parts(m) for m in messages] if parts else messages, *words, **given)

    numbers = "<|tool_call_argument_begin|>" in template.source
    renders_tools = shows([_user(_QUESTION)], _TOOL, tools=[_tool()])
    text, renders_calls = _call_form(shows, numbers) if renders_tools else (False, False)
    call = _call(text, numbers)
    reasoning_field = _reasoning_field(shows, call if renders_calls else None)
    return TemplateTraits(
        system=shows([_system(_SYSTEM), _user(_QUESTION)], _SYSTEM, _QUESTION),
        system_anywhere=_system_anywhere(shows),
        consecutive_users=shows([_user(_QUESTION), _user(_SECOND_QUESTION)], _QUESTION, _SECOND_QUESTION),
        renders_tools=renders_tools,
        renders_calls=renders_calls,
        parallel_calls=renders_calls and _parallel(shows, call),
        user_after_result=renders_calls
        and shows(
            [_user(_QUESTION), _calling(call), _result(call), _user(_SECOND_QUESTION)], _RESULT, _SECOND_QUESTION
        ),
        arguments_as_text=text,
        content_as_parts=parts,
        reasoning_field=reasoning_field,
        user_drops_reasoning=_user_drops(shows, call if renders_calls else None, reasoning_field),
        text_beside_reasoned_call=_text_beside(shows, call, reasoning_field),
        numbers_calls=numbers,
    )


def _shows(
    template: ChatTemplate,
    messages: Sequence[TemplateMessage],
    *words: str,
    tools: Sequence[dict[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
) -> bool:
    """Whether the conversation renders, with all `words` in this order."""
    try:
        text = template.render(messages, tools, True, options)
    except InvalidRequest:
        return False
    position = 0
    for word in words:
        position = text.find(word, position)
        if position < 0:
            return False
    return True


def _system_anywhere(shows: Callable[..., bool]) -> bool:
    after_answer = [_user(_QUESTION), _assistant(_ANSWER), _system(_SECOND_SYSTEM), _user(_SECOND_QUESTION)]
    after_question = [_system(_SYSTEM), _user(_QUESTION), _system(_SECOND_SYSTEM)]
    return shows(after_answer, _ANSWER, _SECOND_SYSTEM, _SECOND_QUESTION) and shows(
        after_question, _QUESTION, _SECOND_SYSTEM
    )


def _call_form(shows: Callable[..., bool], numbers: bool) -> tuple[bool, bool]:
    """(arguments as text, calls are rendered): a template may want the parsed value or its JSON."""
    for text in (False, True):
        call = _call(text, numbers)
        conversation = [_user(_QUESTION), _calling(call), _result(call)]
        python_form = shows(conversation, "'" + _VALUE + "_key': ")
        if not python_form and shows(conversation, _TOOL, _VALUE, _RESULT):
            return text, True
    return False, False


def _parallel(shows: Callable[..., bool], call: dict[str, Any]) -> bool:
    second = {**call, "id": _CALL_ID[:-1] + "2"}
    conversation = [_user(_QUESTION), _calling(call, second), _result(call), _result(second)]
    return shows(conversation, _VALUE, _VALUE, _RESULT, _RESULT)


def _text_beside(shows: Callable[..., bool], call: dict[str, Any], field: str) -> bool:
    """gpt-oss's template, for one, refuses it."""
    answer = {**_calling(call), "content": _ANSWER, **({field: _THOUGHT} if field else {})}
    return shows([_user(_QUESTION), answer, _result(call)])


def _user_drops(shows: Callable[..., bool], call: dict[str, Any] | None, field: str) -> bool:
    if call is None or not field:
        return False
    conversation = [_user(_QUESTION), {**_calling(call), field: _THOUGHT}, _result(call), _user(_SECOND_QUESTION)]
    return not shows(conversation, _THOUGHT, _SECOND_QUESTION, options=_THINKS)


def _reasoning_field(shows: Callable[..., bool], call: dict[str, Any] | None) -> str:
    for field in _REASONING_FIELDS:
        answer = _calling(call) if call else _assistant(_ANSWER)
        conversation = [_user(_QUESTION), {**answer, field: _THOUGHT}]
        if call:
            conversation.append(_result(call))
        if shows(conversation, _THOUGHT, options=_THINKS):
            return field
    return ""


def _system(content: str) -> TemplateMessage:
    return {"role": "system", "content": content}


def _user(content: Any) -> TemplateMessage:
    return {"role": "user", "content": content}


def _assistant(content: str) -> TemplateMessage:
    return {"role": "assistant", "content": content}


def _calling(*calls: dict[str, Any]) -> TemplateMessage:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


def _call(text: bool, numbers: bool) -> dict[str, Any]:
    arguments = f'{{"{_VALUE}_key": "{_VALUE}"}}' if text else {f"{_VALUE}_key": _VALUE}
    call_id = f"functions.{_TOOL}:0" if numbers else _CALL_ID
    return {"id": call_id, "type": "function", "function": {"name": _TOOL, "arguments": arguments}}


def _result(call: dict[str, Any]) -> TemplateMessage:
    return {"role": "tool", "content": _RESULT, "tool_call_id": call["id"], "name": _TOOL}


def _tool() -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"a": {"type": "string", "description": "b"}}, "required": ["a"]}
    return {"type": "function", "function": {"name": _TOOL, "description": "c", "parameters": parameters}}


def _as_parts(message: TemplateMessage) -> TemplateMessage:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message
