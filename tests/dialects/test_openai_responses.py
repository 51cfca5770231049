from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from omlx.server.dialects.base import collect
from omlx.server.dialects.openai_response_store import ResponseStore, SessionTools, StoredResponse
from omlx.server.dialects.openai_responses import Call, ResponsesDialect
from omlx.server.errors import ContextOverflow, EngineFailure, InvalidRequest, OmlxError, RequestFailed
from omlx.server.events import Delta, Finished, FinishReason, TextDelta, ToolCallDelta, Usage
from omlx.server.requests import (
    GenerationRequest,
    JsonObject,
    JsonSchema,
    Message,
    OutputFormat,
    Reasoning,
    ReasoningOptions,
    Role,
    Text,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

from .samples import ADMITTED, DELTAS, FINISHED, Json, body, codex, play, records
from .sdk import openai_client


def call(fields: Json, store: ResponseStore | None = None, request_id: str = "req_1") -> Call:
    return ResponsesDialect(store or ResponseStore()).decode(body(fields), request_id)


def decode(fields: Json) -> GenerationRequest:
    return call(fields).request


def ask(content: Any = "hi", **fields: object) -> Json:
    return {"model": "local", "input": content, **fields}


def refusal(fields: Json) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(fields)
    return caught.value


def final(stream: bytes) -> Any:
    with openai_client(stream, is_stream=True).responses.stream(model="m", input="x") as events:
        for _ in events:
            pass
        return events.get_final_response()


def events(stream: bytes) -> list[str]:
    return [name for name, _ in records(stream)]


def test_a_request_of_codex_keeps_its_items_in_order() -> None:
    assert decode(codex()).messages == (
        Message(Role.DEVELOPER, (Text("Be."),)),
        Message(Role.USER, (Text("Go."),)),
        Message(Role.ASSISTANT, (Reasoning("Hm, hm."),)),
        Message(Role.ASSISTANT, (ToolCall("c1", "multi_agent_v1__spawn", "{}"),)),
        Message(Role.ASSISTANT, (ToolCall("c2", "apply_patch", '{"input":"*** Begin"}'),)),
        Message(Role.TOOL, (ToolResult("c1", (Text("ok"),)),)),
        Message(Role.TOOL, (ToolResult("c2", (Text("done"),)),)),
    )


def test_every_tool_of_codex_is_a_function_for_the_model() -> None:
    request = decode(codex())
    assert [tool.name for tool in request.tools] == ["exec_command", "apply_patch", "multi_agent_v1__spawn", "exec"]
    patch = request.tools[1]
    assert patch.parameters["required"] == ["input"]
    assert "lark grammar:\nstart: begin" in patch.description


def test_the_options_of_codex_are_read() -> None:
    request = decode(codex())
    assert request.session == "thread-1"
    assert request.reasoning == ReasoningOptions(True, "high")
    assert request.max_tokens is None


def test_a_compaction_of_codex_is_a_request_without_tools() -> None:
    request = decode(codex() | {"tools": [], "parallel_tool_calls": False, "input": codex()["input"][1:]})
    assert request.tools == ()
    assert request.messages == decode(codex()).messages


def test_a_text_is_one_user_message() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    assert decode(ask("hi")).messages == decode(ask(items)).messages


def test_instructions_come_first() -> None:
    assert decode(ask("hi", instructions="Be.")).messages[0] == Message(Role.SYSTEM, (Text("Be."),))


def test_names_that_would_meet_are_kept_apart() -> None:
    tools = [
        {"type": "function", "name": "a__b"},
        {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b"}]},
        {"type": "namespace", "name": "a__", "tools": [{"type": "function", "name": "b"}]},
    ]
    item = {"type": "function_call", "call_id": "c", "namespace": "a", "name": "b", "arguments": "{}"}
    decoded = call(ask([item], tools=tools))
    names = [tool.name for tool in decoded.request.tools]
    assert names == ["a__b", "a__b_", "a__b__"]
    part = decoded.request.messages[0].parts[0]
    assert isinstance(part, ToolCall)
    assert part.name == "a__b_"
    stream = play(decoded.encoder(), [ToolCallDelta(0, "c1", "a__b_", "{}"), ToolCallDelta(1, "c2", "a__b", "{}")])
    found = [(item.namespace, item.name) for item in final(stream).output]
    assert found == [("a", "b"), (None, "a__b")]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice()),
        ("required", ToolChoice(ToolMode.REQUIRED)),
        ({"type": "function", "name": "exec_command"}, ToolChoice(ToolMode.NAMED, "exec_command")),
        ({"type": "custom", "name": "apply_patch"}, ToolChoice(ToolMode.NAMED, "apply_patch")),
        (
            {"type": "function", "name": "spawn", "namespace": "multi_agent_v1"},
            ToolChoice(ToolMode.NAMED, "multi_agent_v1__spawn"),
        ),
    ],
)
def test_a_tool_choice_is_read(choice: object, expected: ToolChoice) -> None:
    assert decode(codex() | {"tool_choice": choice}).tool_choice == expected


def test_allowed_tools_are_the_only_ones_offered() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "apply_patch"}]}
    assert [tool.name for tool in decode(codex() | {"tool_choice": choice}).tools] == ["apply_patch"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ({"verbosity": "low"}, None),
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, JsonObject()),
        (
            {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
            JsonSchema({"type": "object"}),
        ),
    ],
)
def test_a_format_of_the_answer_is_read(text: Json | None, expected: OutputFormat | None) -> None:
    assert decode(ask(text=text)).output_format == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "hi"}, "model"),
        (ask([]), "input"),
        (ask(None), "input"),
        (ask(3), "input"),
        (ask([3]), "input.0"),
        (ask([{"role": "user", "content": [{"type": "input_text", "text": 3}]}]), "input.0.content.0.text"),
        (ask([{"role": "robot", "content": "x"}]), "input.0.role"),
        (ask([{"type": "function_call", "name": "a", "arguments": "{}"}]), "input.0.call_id"),
        (ask([{"type": 3}]), "input.0.type"),
        (ask([{"type": "item_reference", "id": "gone"}]), "input.0.id"),
        (ask(previous_response_id="gone"), "previous_response_id"),
        (ask(background=True), "background"),
        (ask(conversation="c"), "conversation"),
        (ask(max_output_tokens=0), "max_output_tokens"),
        (ask(tools=[{"type": "function", "name": "a"}] * 2), "tools.1"),
        (ask(tools=[{"type": "custom"}]), "tools.0.name"),
        (ask(tools=[{"name": "a"}]), "tools.0.type"),
        (ask(text={"format": {"type": "json_schema"}}), "text.format.schema"),
    ],
)
def test_a_wrong_field_is_named(fields: Json, param: str) -> None:
    assert refusal(fields).param == param


def test_the_sdk_reads_the_stream() -> None:
    response = final(play(call(codex()).encoder()))
    reasoning, message, call_1, call_2 = response.output
    assert reasoning.summary[0].text == "Let me think."
    assert message.content[0].text == "I will do it."
    assert (call_1.call_id, call_1.name, call_1.arguments) == ("call_1", "Bash", '{"command":"ls"}')
    assert call_2.arguments == "{}"
    assert (response.status, response.id) == ("completed", "resp_1")
    assert response.usage.input_tokens_details.cached_tokens == 40
    assert response.usage.output_tokens_details.reasoning_tokens == 3


def test_the_events_come_in_the_order_of_the_protocol() -> None:
    stream = play(call(ask(stream=True)).encoder(), [TextDelta("a"), ToolCallDelta(0, "c", "f", "{}")])
    assert events(stream) == [
        "response.created",
        *["response.in_progress"] * 3,
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    values = [value for _, value in records(stream)]
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    assert [value["type"] for value in values] == events(stream)


def test_the_whole_answer_is_what_the_stream_ends_with() -> None:
    whole = call(codex())
    _, last = records(play(whole.encoder()))[-1]
    answered = openai_client(whole.encode_answer(collect(DELTAS, FINISHED))).responses.create(model="m", input="x")
    assert json.loads(answered.to_json()) == {**last["response"], "completed_at": answered.completed_at}
    assert answered.output_text == "I will do it."


def test_thinking_is_a_text_of_its_own_where_no_summary_is_asked_for() -> None:
    stream = play(call(ask()).encoder())
    assert "response.reasoning_text.delta" in events(stream)
    reasoning = final(stream).output[0]
    assert reasoning.summary == []
    assert reasoning.content[0].text == "Let me think."


@pytest.mark.parametrize("kept", ["content", "summary", "encrypted_content"])
def test_thinking_comes_back_from_whatever_the_client_keeps(kept: str) -> None:
    fields = ask(reasoning={"summary": "auto"}) if kept == "summary" else ask()
    item = final(play(call(fields).encoder())).output[0].to_dict()
    returned = {"type": "reasoning", "id": item["id"], "summary": [], kept: item[kept]}
    assert decode(ask([returned])).messages == (Message(Role.ASSISTANT, (Reasoning("Let me think."),)),)


def test_thinking_of_another_server_is_left_out() -> None:
    items = [{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, {"role": "user", "content": "x"}]
    assert decode(ask(items)).messages == (Message(Role.USER, (Text("x"),)),)


def custom_call(*pieces: str) -> tuple[list[str], str]:
    """The deltas of a freeform call and its whole input, for arguments in pieces."""
    deltas: list[Delta] = [ToolCallDelta(0, "c1", "apply_patch"), *(ToolCallDelta(0, arguments=p) for p in pieces)]
    stream = play(call(codex()).encoder(), deltas)
    parts = [value["delta"] for name, value in records(stream) if name == "response.custom_tool_call_input.delta"]
    item = final(stream).output[0]
    assert (item.type, item.call_id, item.name) == ("custom_tool_call", "c1", "apply_patch")
    assert "".join(parts) == item.input
    return parts, item.input


def test_a_freeform_call_streams_its_input() -> None:
    parts, _ = custom_call('{"input": "*** Begin', "\\nab", 'c"}')
    assert parts == ["*** Begin", "\nab", "c"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_freeform_input_is_the_same_in_any_pieces(size: int) -> None:
    arguments = '{"input": "a\\"b\\\\n\\n\\u00e9\\ud83d\\ude00\\ud83d \\d+\t/\\/"}'
    _, text = custom_call(*(arguments[at : at + size] for at in range(0, len(arguments), size)))
    assert text == 'a"b\\n\n\u00e9\N{GRINNING FACE}\N{REPLACEMENT CHARACTER} \\d+\t//'


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("*** Begin Patch", "*** Begin Patch"),
        ('"*** Begin"', "*** Begin"),
        ('{"patch": "*** Begin"}', "*** Begin"),
        ('{"note": "n", "input": "*** Begin"}', "*** Begin"),
        ('{"a": "x", "b": "y"}', '{"a": "x", "b": "y"}'),
        ('{"input": "cut \\u00', "cut \\u00"),
        ("", ""),
    ],
)
def test_a_freeform_call_in_another_shape_still_has_its_input(arguments: str, expected: str) -> None:
    assert custom_call(arguments)[1] == expected


def test_a_tool_declared_as_a_function_stays_one() -> None:
    tools = [{"type": "function", "name": "apply_patch", "parameters": {"type": "object"}}]
    stream = play(call(ask(tools=tools)).encoder(), [ToolCallDelta(0, "c", "apply_patch", '{"input":"x"}')])
    assert final(stream).output[0].type == "function_call"


def test_an_answer_cut_short_is_incomplete() -> None:
    finished = Finished(FinishReason.LENGTH, Usage(100, 9))
    stream = play(call(ask()).encoder(), [TextDelta("a")], finished)
    name, value = records(stream)[-1]
    assert name == "response.incomplete"
    assert value["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert value["response"]["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineFailure("broke"), "server_error"), (RequestFailed("broke"), "invalid_prompt")],
)
def test_an_error_inside_the_stream_fails_the_response(error: OmlxError, code: str) -> None:
    encoder = call(ask()).encoder()
    stream = encoder.start(ADMITTED) + encoder.feed(TextDelta("a")) + encoder.error(error)
    name, value = records(stream)[-1]
    assert name == "response.failed"
    assert value["response"]["error"] == {"code": code, "message": "broke"}


def test_a_stored_response_is_continued_without_its_instructions() -> None:
    store = ResponseStore()
    first = call(ask("one", instructions="Be."), store)
    play(first.encoder(), [TextDelta("two")])
    second = call(ask("three", previous_response_id="resp_1"), store, "req_2")
    second.encode_answer(collect([TextDelta("four")], FINISHED))
    third = call(ask("five", previous_response_id="resp_2"), store, "req_3")
    assert [message.text for message in third.request.messages] == ["one", "two", "three", "four", "five"]
    stored = store.get("resp_2")
    assert stored is not None
    assert openai_client(stored.body).responses.retrieve("resp_2").output_text == "four"


def test_an_item_of_a_stored_response_can_be_referred_to() -> None:
    store = ResponseStore()
    play(call(ask(), store).encoder(), [TextDelta("two")])
    again = call(ask([{"type": "item_reference", "id": "msg_1_0"}]), store, "req_2")
    assert again.request.messages == (Message(Role.ASSISTANT, (Text("two"),)),)
    with pytest.raises(InvalidRequest, match="a second time"):
        call(ask([{"type": "item_reference", "id": "msg_1_0"}] * 2), store, "req_3")


def test_nothing_is_stored_against_the_clients_will() -> None:
    store = ResponseStore()
    play(call(ask(store=False), store).encoder())
    assert store.get("resp_1") is None


def test_the_store_forgets_the_oldest() -> None:
    store = ResponseStore(max_responses=2, max_bytes=100)
    for name, size in (("a", 1), ("b", 1), ("c", 1), ("d", 77)):
        store.put(StoredResponse(name, b" " * size, {name: b'{"id":"%s"}' % name.encode()}, b""))
    assert [name for name in "abcd" if store.get(name)] == ["c", "d"]
    assert (store.item("b"), store.item("c")) == (None, {"id": "c"})
    assert (store.delete("c"), store.delete("c")) == (True, False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContextOverflow(9000, 8192), "context_length_exceeded"),
        (InvalidRequest("is wrong", "input"), "invalid_request"),
    ],
)
def test_the_sdk_raises_its_own_error(error: OmlxError, code: str) -> None:
    client = openai_client(ResponsesDialect(ResponseStore()).encode_error(error, "req_1"), status=400)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input="x")
    assert caught.value.code == code


def test_a_compaction_keeps_the_tools_of_the_conversation_it_sums_up() -> None:
    dialect = ResponsesDialect(ResponseStore())
    talk = [{"role": "user", "content": "hi"}]
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    head: Json = {"model": "m", "prompt_cache_key": "thread-1"}
    turn = dialect.decode(body({**head, "input": talk, "tools": tools}), "req_1").request
    longer = [*talk, {"role": "assistant", "content": "ho"}, {"role": "user", "content": "Sum it up."}]

    def ask(**changed: Any) -> GenerationRequest:
        return dialect.decode(body({**head, "input": longer, "tools": [], **changed}), "req_2").request

    assert ask().tools == turn.tools
    assert ask().tool_choice.mode is ToolMode.NONE
    assert ask(tools=None).tools == ()
    assert ask(prompt_cache_key="thread-2").tools == ()
    assert ask(input=[{"role": "user", "content": "another talk"}, *longer]).tools == ()


def test_the_tools_of_sessions_are_remembered_within_a_number_of_bytes():
    sessions, items = SessionTools(max_bytes=10_000), [{"type": "message"}]
    for number in range(5):
        for _ in range(3):  # the same session counts once
            sessions.remember(f"session {number}", [{"name": "x" * 3000}], items)
    kept = [bool(sessions.recall(f"session {number}", [*items, {}])) for number in range(5)]
    assert kept == [False, False, True, True, True]
    sessions.remember("huge", [{"name": "x" * 20_000}], items)
    assert not sessions.recall("huge", [*items, {}])
