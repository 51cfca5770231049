from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from omlx.server.dialects import openai_chat
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
from omlx.server.events import Finished, FinishReason, TextDelta, Usage
from omlx.server.requests import (
    Choice,
    GenerationRequest,
    Grammar,
    Image,
    JsonObject,
    JsonSchema,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningOptions,
    Regex,
    Role,
    SamplingParams,
    Text,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

from .samples import ADMITTED, DELTAS, FINISHED, Json, body, chat_tool, pi, play, records
from .sdk import openai_client


def decode(fields: Json) -> GenerationRequest:
    return openai_chat.decode(body(fields), "req_1").request


def user(content: object = "x", **fields: object) -> Json:
    return {"model": "local", "messages": [{"role": "user", "content": content}], **fields}


def with_message(**message: object) -> Json:
    return {"model": "local", "messages": [message]}


def refusal(fields: Json) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(fields)
    return caught.value


def test_a_request_of_pi_is_read() -> None:
    request = decode(pi())
    assert request.messages == (
        Message(Role.DEVELOPER, (Text("You are Pi."),)),
        Message(Role.USER, (Text("Go."),)),
        Message(
            Role.ASSISTANT,
            (Reasoning("\nHm.\n"), Text("I will do it."), ToolCall("call_1", "Bash", '{"command":"ls"}')),
        ),
        Message(Role.TOOL, (ToolResult("call_1", (Text("README.md"),)),)),
    )
    assert request.max_tokens == 16384
    assert request.reasoning == ReasoningOptions(True, "medium")
    assert [tool.name for tool in request.tools] == ["Bash", "Now"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_comes_back_under_either_name(field: str) -> None:
    message = with_message(role="assistant", content=None, refusal=None, **{field: "Hm."})
    assert decode(message).messages[0].parts == (Reasoning("Hm."),)


def test_what_the_model_called_comes_back_whatever_its_shape() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{oops"}},
        {"id": "c", "type": "custom", "custom": {"name": "h", "input": "free"}},
    ]
    assert decode(with_message(role="assistant", tool_calls=calls)).messages[0].parts == (
        ToolCall("a", "f", '{"x":1}'),
        ToolCall("b", "g", "{oops"),
        ToolCall("c", "h", '{"input":"free"}'),
    )


def test_the_old_function_form_is_read() -> None:
    call = with_message(role="assistant", function_call={"name": "f", "arguments": "{}"})
    assert decode(call).messages[0].parts == (ToolCall("", "f", "{}"),)
    result = with_message(role="function", name="f", content="1")
    assert decode(result).messages[0] == Message(Role.TOOL, (ToolResult("", (Text("1"),), "f"),))


def test_an_image_is_read_from_a_data_url_and_from_nowhere_else() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert decode(user([part])).messages[0].parts == (Image("image/png", b"\x89PNG\r\n\x1a\n"),)
    part = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}
    assert refusal(user([part])).param == "messages.0.content.0.image_url"


@pytest.mark.parametrize("kind", ["file", "input_file", "input_audio", "input_video", "video_url", "image"])
def test_what_is_no_text_is_mentioned(kind: str) -> None:
    content = [{"type": kind, kind: {"data": "UklGRg=="}}, {"type": "text", "text": "What is it?"}]
    (message,) = decode(user(content)).messages
    assert [part.text for part in message.parts if isinstance(part, Text)] == [
        "[A file stood here. This server reads text only.]",
        "What is it?",
    ]


def test_every_sampling_parameter_is_read() -> None:
    fields: Json = {
        "temperature": 0,
        "top_p": 0.95,
        "top_k": -1,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "seed": -7,
        "logit_bias": {"50256": -100},
    }
    expected = SamplingParams(0.0, 0.95, 0, 0.1, 1.1, -2.0, 2.0, -7, ((50256, -100.0),))
    assert decode(user(**fields)).sampling == expected
    assert decode(user(**dict.fromkeys(fields))).sampling == SamplingParams()


def test_stop_is_a_text_or_a_list() -> None:
    assert decode(user(stop="a")).stop == ("a",)
    assert decode(user(stop=["a", "", "b"])).stop == ("a", "b")


@pytest.mark.parametrize(
    ("choice", "expected", "tools"),
    [
        (None, ToolChoice(), ["a", "b"]),
        ("auto", ToolChoice(), ["a", "b"]),
        ("none", ToolChoice(ToolMode.NONE), ["a", "b"]),
        ("required", ToolChoice(ToolMode.REQUIRED), ["a", "b"]),
        ({"type": "function", "function": {"name": "b"}}, ToolChoice(ToolMode.NAMED, "b"), ["a", "b"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [chat_tool("b")]}},
            ToolChoice(ToolMode.REQUIRED),
            ["b"],
        ),
    ],
)
def test_a_tool_choice_is_read(choice: object, expected: ToolChoice, tools: list[str]) -> None:
    request = decode(user(tools=[chat_tool("a"), chat_tool("b")], tool_choice=choice))
    assert request.tool_choice == expected
    assert [tool.name for tool in request.tools] == tools


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonObject()),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, JsonSchema({})),
        ({"structured_outputs": {"json": '{"type":"string"}'}}, JsonSchema({"type": "string"})),
        ({"structured_outputs": {"regex": "a+"}}, Regex("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, Choice(("a", "b"))),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Grammar('root ::= "a"')),
    ],
)
def test_a_format_of_the_answer_is_read(fields: Json, expected: OutputFormat | None) -> None:
    assert decode(user(**fields)).output_format == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "none"}, ReasoningOptions(False)),
        ({"reasoning_effort": "high"}, ReasoningOptions(True, "high")),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ReasoningOptions(False)),
        ({"chat_template_kwargs": {"other": 1}}, ReasoningOptions()),
    ],
)
def test_thinking_is_switched(fields: Json, expected: ReasoningOptions) -> None:
    request = decode(user(**fields))
    assert request.reasoning == expected
    assert request.template_options == fields.get("chat_template_kwargs", {})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "model"),
        (user(3), "messages.0.content"),
        (user([{"type": "text", "text": 3}]), "messages.0.content.0.text"),
        (user() | {"messages": []}, "messages"),
        (with_message(role="robot", content="x"), "messages.0.role"),
        (with_message(role="tool", content="x"), "messages.0.tool_call_id"),
        (with_message(role="assistant", tool_calls=[{"id": "a"}]), "messages.0.tool_calls.0.function"),
        (user(n=33), "n"),
        (user(n=0), "n"),
        (user(n=10**9), "n"),
        (user(logprobs=True, top_logprobs=21), "top_logprobs"),
        (user(top_logprobs=1), "top_logprobs"),
        (user(temperature=-0.1), "temperature"),
        (user(temperature="hot"), "temperature"),
        (user(top_p=1.1), "top_p"),
        (user(max_tokens=0), "max_tokens"),
        (user(max_tokens=10**30), "max_tokens"),
        (user(seed=2**63), "seed"),
        (user(stop=["a"] * 33), "stop"),
        (user(stop="a" * 1025), "stop"),
        (user(logit_bias={"x": 1}), "logit_bias"),
        (user(logit_bias={"1": 101}), "logit_bias"),
        (user(tools=[chat_tool(str(n)) for n in range(1025)]), "tools"),
        (user(tools=[chat_tool("a"), {"type": "function", "function": {"name": 3}}]), "tools.1.function.name"),
        (user(tool_choice="required"), "tool_choice"),
        (user(tool_choice={"type": "function", "function": {"name": "gone"}}), "tool_choice"),
        (user(response_format={"type": "xml"}), "response_format.type"),
        (user(response_format={"type": "json_schema"}), "response_format.json_schema.schema"),
        (user(structured_outputs={"regex": "a", "choice": ["b"]}), "structured_outputs"),
    ],
)
def test_a_wrong_field_is_named(fields: Json, param: str) -> None:
    assert refusal(fields).param == param


def test_what_the_server_does_not_know_is_ignored() -> None:
    fields = user(
        [{"type": "text", "text": "x"}, {"type": "hologram", "text": 3}],
        tools=[chat_tool("a"), {"type": "time_machine"}],
        prediction={"type": "content"},
    )
    request = decode(fields)
    assert request.messages[0].parts == (Text("x"),)
    assert [tool.name for tool in request.tools] == ["a"]


def streamed(stream: bytes) -> Any:
    state = ChatCompletionStreamState()
    for chunk in openai_client(stream, is_stream=True).chat.completions.create(model="m", messages=[], stream=True):
        state.handle_chunk(chunk)
    return state.get_final_completion()


def test_the_sdk_reads_the_stream() -> None:
    call = openai_chat.decode(body(pi()), "req_1")
    assert call.stream
    completion = streamed(play(call.encoder()))
    message = completion.choices[0].message
    assert (completion.id, completion.choices[0].finish_reason) == ("chatcmpl-1", "tool_calls")
    assert message.content == "I will do it."
    assert message.reasoning_content == "Let me think."
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    assert calls == [("call_1", "Bash", '{"command":"ls"}'), ("call_2", "Now", "{}")]
    assert completion.usage.prompt_tokens_details.cached_tokens == 40
    assert completion.usage.completion_tokens_details.reasoning_tokens == 3
    assert completion.usage.total_tokens == 109


def test_the_whole_answer_says_what_the_stream_says() -> None:
    call = openai_chat.decode(body(pi()), "req_1")
    whole = openai_client(call.encode_answer(collect(DELTAS, FINISHED))).chat.completions.create(model="m", messages=[])
    from_stream = streamed(play(call.encoder()))
    message, expected = whole.choices[0].message.to_dict(), from_stream.choices[0].message.to_dict()
    for name in ("role", "content", "reasoning_content"):
        assert message[name] == expected[name]
    assert whole.usage == from_stream.usage
    assert whole.choices[0].finish_reason == from_stream.choices[0].finish_reason


def test_a_heartbeat_is_a_chunk_without_choices() -> None:
    encoder = openai_chat.decode(body(user()), "req_1").encoder()
    (_, chunk), *_ = records(encoder.heartbeat())
    assert chunk["choices"] == []
    assert "usage" not in chunk


def test_usage_comes_only_when_asked_for() -> None:
    without = openai_chat.decode(body(user(stream=True)), "req_1").encoder()
    assert b"usage" not in play(without)
    *_, last, (_, done) = records(play(openai_chat.decode(body(pi()), "req_1").encoder()))
    assert last[1]["choices"] == []
    assert last[1]["usage"]["completion_tokens"] == 9
    assert done == "[DONE]"


def test_a_stop_sequence_is_reported() -> None:
    encoder = openai_chat.decode(body(user()), "req_1").encoder()
    finished = Finished(FinishReason.STOP_SEQUENCE, ADMITTED, "END")
    *_, (_, chunk), _ = records(play(encoder, [TextDelta("a")], finished))
    assert (chunk["choices"][0]["finish_reason"], chunk["choices"][0]["stop_reason"]) == ("stop", "END")


def test_an_empty_answer_is_an_empty_text() -> None:
    call = openai_chat.decode(body(user()), "req_1")
    answer = collect([], Finished(FinishReason.LENGTH, Usage(1)))
    choice = openai_client(call.encode_answer(answer)).chat.completions.create(model="m", messages=[]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    ("error", "status", "expected", "code"),
    [
        (InvalidRequest("is wrong", "stop.1"), 400, openai.BadRequestError, "invalid_request"),
        (ContextOverflow(9000, 8192), 400, openai.BadRequestError, "context_length_exceeded"),
        (Unauthorized("no key"), 401, openai.AuthenticationError, "invalid_api_key"),
        (ModelNotFound("x", ["local"]), 404, openai.NotFoundError, "model_not_found"),
        (EngineFailure("broke"), 500, openai.InternalServerError, "engine_failure"),
        (Overloaded("busy"), 503, openai.InternalServerError, "overloaded"),
    ],
)
def test_the_sdk_raises_its_own_error(
    error: OmlxError, status: int, expected: type[openai.APIStatusError], code: str
) -> None:
    client = openai_client(openai_chat.encode_error(error, "req_1"), status=status)
    with pytest.raises(expected) as caught:
        client.chat.completions.create(model="m", messages=[])
    assert caught.value.code == code
    assert str(error) in caught.value.message
    assert caught.value.param == getattr(error, "param", None)


def test_an_error_inside_the_stream_ends_it() -> None:
    encoder = openai_chat.decode(body(user()), "req_1").encoder()
    stream = encoder.start(ADMITTED) + encoder.feed(TextDelta("a")) + encoder.error(Overloaded("busy"))
    with pytest.raises(openai.APIError, match="busy"):
        list(openai_client(stream, is_stream=True).chat.completions.create(model="m", messages=[], stream=True))
