"""Several answers to a request, and the log probabilities of tokens, as the OpenAI SDK reads them."""

from __future__ import annotations

import json
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState

from omlx.server.dialects import openai_chat, openai_completions, openai_responses
from omlx.server.dialects.base import collect
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.events import (
    ChoiceFinished,
    Delta,
    Finished,
    FinishReason,
    Logprobs,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCallDelta,
    Usage,
)

from .samples import body, play, records
from .sdk import openai_client

FINISHED = Finished(FinishReason.STOP, Usage(5, 7))


def score(text: str, logprob: float | None, *top: TokenScore) -> TokenScore:
    return TokenScore(text, text.encode(), logprob, top)


HALF = TokenScore("\ufffd", b"\xe2\x82", -3.0)
HI = Logprobs((score("Hi", -0.5, score("Hi", -0.5), HALF),))
INTERLEAVED: list[Delta] = [
    HI,
    TextDelta("Hi"),
    TextDelta("You", choice=1),
    ToolCallDelta(0, "call_1", "look", choice=1),
    TextDelta("!"),
    ChoiceFinished(1, FinishReason.TOOL_CALLS),
    ChoiceFinished(0, FinishReason.STOP),
]


def chat(**fields: object) -> openai_chat.Call:
    return openai_chat.decode(body({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}), "req_1")


def completion(**fields: object) -> openai_completions.Call:
    return openai_completions.decode(body({"model": "m", "prompt": "Once", **fields}), "req_1")


def streamed(stream: bytes) -> Any:
    state = ChatCompletionStreamState()
    for chunk in openai_client(stream, is_stream=True).chat.completions.create(model="m", messages=[], stream=True):
        state.handle_chunk(chunk)
    return state.get_final_completion()


def test_a_stream_and_a_body_hold_the_same_choices() -> None:
    call = chat(n=2, logprobs=True, top_logprobs=2)
    whole: Any = openai_client(call.encode_answer(collect(INTERLEAVED, FINISHED))).chat.completions.create(
        model="m", messages=[]
    )

    for answer in (whole, streamed(play(call.encoder(), INTERLEAVED, FINISHED))):
        first, second = answer.choices
        assert (first.message.content, first.finish_reason) == ("Hi!", "stop")
        assert (second.message.content, second.finish_reason) == ("You", "tool_calls")
        assert second.message.tool_calls[0].function.arguments == "{}"
        (token,) = first.logprobs.content
        assert (token.token, token.bytes, token.logprob) == ("Hi", [72, 105], -0.5)
        assert [top.bytes for top in token.top_logprobs] == [[72, 105], [0xE2, 0x82]]
    assert whole.usage.completion_tokens == 7


def test_a_stream_of_several_ends_once() -> None:
    *_, usage, (_, done) = records(
        play(chat(n=2, stream_options={"include_usage": True}).encoder(), INTERLEAVED, FINISHED)
    )
    assert (usage[1]["usage"]["total_tokens"], usage[1]["choices"], done) == (12, [], "[DONE]")


def test_logprobs_that_come_with_no_text_ride_on_the_last_chunk() -> None:
    *_, (_, last), _ = records(play(chat(logprobs=True).encoder(), [TextDelta("a"), HI], FINISHED))
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["logprobs"]["content"][0]["token"] == "Hi"


def test_an_echoed_prompt_brings_its_logprobs() -> None:
    call = completion(echo=True, logprobs=2)
    deltas: list[Delta] = [PromptLogprobs((score("On", None), score("ce", -2.0))), HI, TextDelta("Hi")]
    whole = openai_client(call.encode_answer(collect(deltas, FINISHED))).completions.create(model="m", prompt="")
    chunks = openai_client(play(call.encoder(), deltas, FINISHED), is_stream=True).completions.create(
        model="m", prompt="", stream=True
    )
    pieces = [choice for chunk in chunks for choice in chunk.choices]

    found = whole.choices[0]
    assert call.request.prompt_logprobs
    assert found.text == "".join(piece.text for piece in pieces) == "OnceHi"
    assert found.logprobs is not None
    assert found.logprobs.tokens == ["On", "ce", "Hi"]
    assert found.logprobs.token_logprobs == [None, -2.0, -0.5]
    assert found.logprobs.text_offset == [0, 2, 4]
    assert found.logprobs.top_logprobs is not None
    assert found.logprobs.top_logprobs[0] is None
    assert found.logprobs.top_logprobs[2] == {"Hi": -0.5, "bytes:\\xe2\\x82": -3.0}
    offsets = [offset for piece in pieces if piece.logprobs for offset in piece.logprobs.text_offset or []]
    assert offsets == found.logprobs.text_offset


def test_a_prompt_of_token_ids_is_echoed_by_its_tokens() -> None:
    call = openai_completions.decode(body({"model": "m", "prompt": [1, 2], "echo": True}), "req_1")
    answer = collect([PromptLogprobs((score("On", None), score("ce", -2.0))), TextDelta("!")], FINISHED)
    found = openai_client(call.encode_answer(answer)).completions.create(model="m", prompt="").choices[0]

    assert (found.text, found.logprobs) == ("Once!", None)


def test_each_prompt_has_its_echo_and_its_answers() -> None:
    call = openai_completions.decode(body({"model": "m", "prompt": ["On", "Off"], "n": 2, "echo": True}), "req_1")
    deltas: list[Delta] = [TextDelta(f" {choice}", choice) for choice in (3, 1, 0, 2)]
    deltas += [ChoiceFinished(choice, FinishReason.STOP) for choice in (2, 0, 3, 1)]
    whole = openai_client(call.encode_answer(collect(deltas, FINISHED))).completions.create(model="m", prompt="")
    chunks = openai_client(play(call.encoder(), deltas, FINISHED), is_stream=True).completions.create(
        model="m", prompt="", stream=True
    )
    streamed_texts = dict.fromkeys(range(4), "")
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        streamed_texts[choice.index] += choice.text

    assert {choice.index: choice.text for choice in whole.choices} == streamed_texts
    assert streamed_texts == {0: "On 0", 1: "On 1", 2: "Off 2", 3: "Off 3"}


def test_best_of_chooses_among_the_answers_to_each_prompt() -> None:
    call = openai_completions.decode(body({"model": "m", "prompt": ["a", "b"], "best_of": 2}), "req_1")
    deltas: list[Delta] = []
    for choice, value in enumerate((-2.0, -0.1, -0.05, -1.0)):
        deltas += [Logprobs((score("x", value),), choice), TextDelta(f"answer {choice}", choice)]
        deltas.append(ChoiceFinished(choice, FinishReason.STOP))
    found = openai_client(call.encode_answer(collect(deltas, FINISHED))).completions.create(model="m", prompt="")

    assert [(choice.index, choice.text) for choice in found.choices] == [(0, "answer 1"), (1, "answer 2")]


def test_best_of_tells_the_likeliest_and_counts_all() -> None:
    call = completion(n=1, best_of=3)
    deltas: list[Delta] = []
    for choice, value in enumerate((-2.0, -0.1, -1.0)):
        deltas += [Logprobs((score("x", value),), choice), TextDelta(f"answer {choice}", choice)]
        deltas.append(ChoiceFinished(choice, FinishReason.STOP))
    found = openai_client(call.encode_answer(collect(deltas, FINISHED))).completions.create(model="m", prompt="")

    assert (call.request.num_answers, call.request.logprobs) == (3, 0)
    assert [choice.text for choice in found.choices] == ["answer 1"]
    assert found.choices[0].logprobs is None
    assert found.usage is not None
    assert found.usage.completion_tokens == 7


def response(**fields: object) -> openai_responses.Call:
    fields = {"model": "m", "input": "x", **fields}
    return openai_responses.ResponsesDialect(ResponseStore()).decode(body(fields), "req_1")


def test_a_responses_text_has_the_log_probabilities_of_its_own_tokens_streamed_and_whole() -> None:
    call = response(top_logprobs=2, include=["message.output_text.logprobs"])
    assert call.request.logprobs == 2
    deltas: list[Delta] = [
        Logprobs((score("Hi", -9.0), score("</think>", -8.0), score("Hi", -0.5, score("Hi", -0.5), HALF))),
        ReasoningDelta("Hi"),
        TextDelta("H"),
        TextDelta("i"),
        Logprobs((score(" you", -0.25), score("!", -1.0))),
        TextDelta(" you!"),
        Logprobs((score("<tool_call>", -7.0),)),
        ToolCallDelta(0, "call_1", "look", "{}"),
    ]
    whole = json.loads(call.encode_answer(collect(deltas, FINISHED)))
    streamed_body = next(
        data["response"]
        for name, data in records(play(call.encoder(), deltas, FINISHED))
        if name == "response.completed"
    )
    for found in (whole, streamed_body):
        (message,) = (item for item in found["output"] if item["type"] == "message")
        logprobs = message["content"][0]["logprobs"]
        assert [(each["token"], each["logprob"]) for each in logprobs] == [("Hi", -0.5), (" you", -0.25), ("!", -1.0)]
        assert [top["bytes"] for top in logprobs[0]["top_logprobs"]] == [[72, 105], [0xE2, 0x82]]


def test_a_response_has_log_probabilities_only_where_they_are_asked_for() -> None:
    assert response().request.logprobs is None
    assert response(include=["message.output_text.logprobs"]).request.logprobs == 0
    assert response(include=["reasoning.encrypted_content"]).request.logprobs is None
