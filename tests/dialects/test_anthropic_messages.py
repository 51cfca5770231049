from __future__ import annotations

import base64

import anthropic
import pytest

from omlx.server.dialects import anthropic_messages
from omlx.server.dialects.base import collect
from omlx.server.errors import (
    ContextOverflow,
    EngineFailure,
    InvalidRequest,
    ModelNotFound,
    OmlxError,
    Overloaded,
    Unauthorized,
)
from omlx.server.events import Finished, FinishReason, TextDelta, ToolCallDelta, Usage
from omlx.server.requests import (
    GenerationRequest,
    Image,
    JsonSchema,
    Message,
    Reasoning,
    ReasoningOptions,
    Role,
    Text,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolReference,
    ToolResult,
)

from .samples import ADMITTED, DELTAS, FINISHED, Json, body, claude_code, play, records
from .sdk import anthropic_client

PNG = b"\x89PNG\r\n\x1a\n"


def decode(fields: Json) -> GenerationRequest:
    return anthropic_messages.decode(body(fields), "req_1").request


def user(content: object, **fields: object) -> Json:
    return {"model": "local", "max_tokens": 10, "messages": [{"role": "user", "content": content}], **fields}


def refusal(fields: Json) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(fields)
    return caught.value


def test_a_request_of_claude_code_keeps_its_messages_in_order() -> None:
    assert decode(claude_code()).messages == (
        Message(Role.SYSTEM, (Text("You are a Claude agent."), Text("Be brief."))),
        Message(Role.USER, (Text("<system-reminder>git</system-reminder>"), Text("Go."))),
        Message(Role.SYSTEM, (Text("# Environment"),)),
        Message(
            Role.ASSISTANT,
            (
                Reasoning("\nHm.\n", "c2ln"),
                Text("\n\nI look for a tool."),
                ToolCall("toolu_1", "ToolSearch", '{"query":"select:Cron"}'),
            ),
        ),
        Message(Role.TOOL, (ToolResult("toolu_1", (ToolReference("Cron"),)),)),
        Message(Role.USER, (Text("<system-reminder>still there</system-reminder>"),)),
    )


def test_a_request_of_claude_code_keeps_its_options() -> None:
    request = decode(claude_code())
    assert [(tool.name, tool.deferred) for tool in request.tools] == [("Bash", False), ("Cron", True), ("Now", False)]
    assert request.max_tokens == 32000
    assert request.session == "s-1"
    assert request.reasoning == ReasoningOptions(None, "high")


def test_a_text_and_a_list_of_one_text_are_the_same_message() -> None:
    assert decode(user("hi")) == decode(user([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]))
    assert decode(user("hi", system="be")) == decode(user("hi", system=[{"type": "text", "text": "be"}]))


def test_the_countdown_is_dropped_from_the_system_text_and_kept_elsewhere() -> None:
    countdown = "<total_tokens>12 tokens left</total_tokens>"
    request = decode(user(countdown, system=f"Be brief.\n{countdown}"))
    assert [message.text for message in request.messages] == ["Be brief.", countdown]


def test_tool_results_and_texts_of_one_message_keep_their_places() -> None:
    request = decode(
        user(
            [
                {"type": "text", "text": "before"},
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "after"},
            ]
        )
    )
    assert request.messages == (
        Message(Role.USER, (Text("before"),)),
        Message(Role.TOOL, (ToolResult("a", (Text("1"),)),)),
        Message(Role.TOOL, (ToolResult("b", (), is_error=True),)),
        Message(Role.USER, (Text("after"),)),
    )


def test_documents_are_read_where_they_are_text_and_mentioned_where_not() -> None:
    plain = {"type": "document", "title": "Notes", "source": {"type": "text", "media_type": "text/plain", "data": "a"}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    found = {"type": "search_result", "title": "T", "source": "u", "content": [{"type": "text", "text": "b"}]}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [plain, pdf, found]}
    asked, answered = decode(user([plain, pdf, found, result])).messages

    texts = (Text("Notes\na"), Text("[A file stood here. This server reads text only.]"), Text("T\nu\nb"))
    assert asked.parts == texts
    assert answered.parts == (ToolResult("toolu_1", texts),)


def test_an_image_is_read_from_base64() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    assert decode(user([{"type": "image", "source": source}])).messages[0].parts == (Image("image/png", PNG),)
    fault = refusal(user([{"type": "image", "source": {"type": "url", "url": "http://x"}}]))
    assert fault.param == "messages.0.content.0.source.type"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
        ({"type": "any"}, ToolChoice(ToolMode.REQUIRED)),
        ({"type": "none"}, ToolChoice(ToolMode.NONE)),
        ({"type": "tool", "name": "Bash"}, ToolChoice(ToolMode.NAMED, "Bash")),
    ],
)
def test_a_tool_choice_is_read(choice: Json, expected: ToolChoice) -> None:
    assert decode(claude_code() | {"tool_choice": choice}).tool_choice == expected


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 2048}, ReasoningOptions(True, None, 2048)),
        ({"type": "disabled"}, ReasoningOptions(False)),
        ({"type": "between_tools"}, ReasoningOptions()),
        (None, ReasoningOptions()),
    ],
)
def test_thinking_is_read(thinking: Json | None, expected: ReasoningOptions) -> None:
    assert decode(user("hi", thinking=thinking)).reasoning == expected


def test_the_title_request_asks_for_a_schema() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    config = {"format": {"type": "json_schema", "schema": schema}}
    assert decode(user("hi", output_config=config)).output_format == JsonSchema(schema)


def test_warming_the_cache_generates_one_token() -> None:
    assert decode(user("hi") | {"max_tokens": 0}).max_tokens == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (user(3), "messages.0.content"),
        (user([{"type": "text", "text": 3}]), "messages.0.content.0.text"),
        (user([{"text": "x"}]), "messages.0.content.0.type"),
        (user([{"type": "tool_result", "tool_use_id": "a", "content": [3]}]), "messages.0.content.0.content.0"),
        (user("x", system=[{"type": "text"}]), "system.0.text"),
        (user("x", temperature=2.1), "temperature"),
        (user("x", stop_sequences=["a", 1]), "stop_sequences.1"),
        (user("x", stop_sequences=["a"] * 33), "stop_sequences"),
        (user("x", tools=[{"name": "a"}]), "tools.0.input_schema"),
        (user("x", tools=[{"name": "a", "input_schema": {}}] * 2), "tools"),
        (user("x", tool_choice={"type": "tool", "name": "gone"}), "tool_choice.name"),
        (user("x", thinking={"type": "maybe"}), "thinking.type"),
        (user("x") | {"messages": []}, "messages"),
        (user("x") | {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        (user("x") | {"max_tokens": None}, "max_tokens"),
        (user("x") | {"max_tokens": -1}, "max_tokens"),
    ],
)
def test_a_wrong_field_is_named(fields: Json, param: str) -> None:
    assert refusal(fields).param == param


def test_counting_needs_no_max_tokens_and_reads_the_same_prompt() -> None:
    fields = claude_code()
    counted = anthropic_messages.decode_count_tokens(
        body({name: fields[name] for name in ("model", "messages", "system", "tools", "thinking")}), "req_1"
    )
    request = decode(fields)
    assert (counted.messages, counted.tools) == (request.messages, request.tools)


def test_the_sdk_reads_the_stream() -> None:
    call = anthropic_messages.decode(body(claude_code()), "req_1")
    assert call.stream
    with anthropic_client(play(call.encoder()), is_stream=True).messages.stream(
        model="local", max_tokens=10, messages=[{"role": "user", "content": "Go."}]
    ) as stream:
        message = stream.get_final_message()
    thinking, *others = [block.to_dict() for block in message.content]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Let me think.")
    assert thinking["signature"]
    assert others == [
        {"type": "text", "text": "I will do it."},
        {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"command": "ls"}},
        {"type": "tool_use", "id": "call_2", "name": "Now", "input": {}},
    ]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (60, 40)
    assert message.usage.output_tokens == 9


def test_the_stream_and_the_whole_answer_are_one_message() -> None:
    call = anthropic_messages.decode(body(claude_code()), "req_1")
    client = anthropic_client(play(call.encoder()), is_stream=True)
    with client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream:
        streamed = stream.get_final_message()
    whole = anthropic_client(call.encode_answer(collect(DELTAS, FINISHED))).messages.create(
        model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
    )
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.usage == whole.usage
    assert (streamed.id, streamed.stop_reason) == (whole.id, whole.stop_reason)


def test_message_start_carries_the_real_input_and_pings_the_progress() -> None:
    encoder = anthropic_messages.decode(body(claude_code()), "req_1").encoder()
    start, *pings = records(play(encoder))[:4]
    assert start[1]["message"]["usage"]["input_tokens"] == 60
    assert start[1]["message"]["id"] == "msg_1"
    assert [name for name, _ in pings] == ["ping"] * 3
    assert pings[2][1]["prefill"] == {"num_computed_tokens": 50, "num_prompt_tokens": 100}


@pytest.mark.parametrize(
    ("reason", "sequence", "expected"),
    [
        (FinishReason.STOP, "", ("end_turn", None)),
        (FinishReason.LENGTH, "", ("max_tokens", None)),
        (FinishReason.STOP_SEQUENCE, "END", ("stop_sequence", "END")),
        (FinishReason.TOOL_CALLS, "", ("tool_use", None)),
    ],
)
def test_the_stop_reason_says_why_the_model_stopped(
    reason: FinishReason, sequence: str, expected: tuple[str, str | None]
) -> None:
    encoder = anthropic_messages.decode(body(user("x")), "req_1").encoder()
    finished = Finished(reason, ADMITTED, sequence)
    delta = dict(records(play(encoder, [TextDelta("a")], finished)))["message_delta"]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == expected


def test_arguments_that_are_no_object_reach_the_client_as_written() -> None:
    call = anthropic_messages.decode(body(user("x")), "req_1")
    answer = collect([ToolCallDelta(0, "a", "Bash", "{oops")], Finished(FinishReason.TOOL_CALLS, Usage(1)))
    message = anthropic_client(call.encode_answer(answer)).messages.create(
        model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
    )
    assert message.content[0].to_dict()["input"] == {"raw_arguments": "{oops"}


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (InvalidRequest("is wrong", "messages.2.content"), 400, anthropic.BadRequestError),
        (ContextOverflow(9000, 8192), 400, anthropic.BadRequestError),
        (Unauthorized("no key"), 401, anthropic.AuthenticationError),
        (ModelNotFound("x", ["local"]), 404, anthropic.NotFoundError),
        (EngineFailure("broke"), 500, anthropic.InternalServerError),
        (Overloaded("busy"), 503, anthropic.InternalServerError),
    ],
)
def test_the_sdk_raises_its_own_error(error: OmlxError, status: int, expected: type[anthropic.APIStatusError]) -> None:
    client = anthropic_client(anthropic_messages.encode_error(error, "req_1"), status=status)
    with pytest.raises(expected) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    assert str(error) in caught.value.message
    assert caught.value.body["request_id"] == "req_1"  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]


def test_an_overflow_is_told_in_the_words_clients_know() -> None:
    encoded = anthropic_messages.encode_error(ContextOverflow(9000, 8192), "req_1")
    assert b'"message":"prompt is too long: 9000 tokens > 8191 maximum"' in encoded


def test_an_error_inside_the_stream_ends_it() -> None:
    encoder = anthropic_messages.decode(body(user("x")), "req_1").encoder()
    stream = encoder.start(ADMITTED) + encoder.feed(TextDelta("a")) + encoder.error(Overloaded("busy"))
    client = anthropic_client(stream, is_stream=True)
    with (
        pytest.raises(anthropic.APIStatusError, match="busy"),
        client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as events,
    ):
        events.until_done()
