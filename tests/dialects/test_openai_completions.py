from __future__ import annotations

import pytest

from omlx.server.dialects import openai_completions
from omlx.server.dialects.base import collect
from omlx.server.errors import InvalidRequest, Overloaded
from omlx.server.events import Delta, Finished, FinishReason, PrefillProgress, ReasoningDelta, TextDelta, Usage
from omlx.server.requests import Regex

from .samples import ADMITTED, Json, body, play, records
from .sdk import openai_client

DELTAS: list[Delta] = [TextDelta(" there"), ReasoningDelta(" was"), TextDelta(" once")]
FINISHED = Finished(FinishReason.STOP_SEQUENCE, Usage(4, 3, 2), ".")


def call(prompt: object = "Once", **fields: object) -> openai_completions.Call:
    return openai_completions.decode(body({"model": "local", "prompt": prompt, **fields}), "req_1")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", ("Once",)),
        (["Once"], ("Once",)),
        (["Once", "Twice"], ("Once", "Twice")),
        ([1, 2], ((1, 2),)),
        ([[1, 2]], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_are_texts_or_token_ids(prompt: object, expected: tuple[str | tuple[int, ...], ...]) -> None:
    request = call(prompt).request
    assert ((request.prompt, *request.more_prompts), request.messages) == (expected, ())


def test_the_options_are_read() -> None:
    request = call(temperature=0.5, stop=".", max_tokens=7, structured_outputs={"regex": "a"}).request
    assert (request.sampling.temperature, request.stop, request.max_tokens) == (0.5, (".",), 7)
    assert request.output_format == Regex("a")
    assert call().request.max_tokens == 16


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt.1"),
        ({"prompt": ["a", [1]]}, "prompt.1"),
        ({"prompt": [[1], []]}, "prompt.1"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 33, "n": 4}, "prompt"),
        ({"prompt": [None]}, "prompt.0"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": [[-1]]}, "prompt.0.0"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 33}, "best_of"),
        ({"n": 33}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
    ],
)
def test_a_wrong_field_is_named(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        call(**fields)
    assert caught.value.param == param


def test_the_sdk_reads_the_stream() -> None:
    asked = call(stream=True, echo=True, stream_options={"include_usage": True})
    client = openai_client(play(asked.encoder(), DELTAS, FINISHED), is_stream=True)
    chunks = list(client.completions.create(model="m", prompt="x", stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Once there was once"
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7


def test_the_sdk_reads_the_whole_answer() -> None:
    completion = openai_client(call(echo=True).encode_answer(collect(DELTAS, FINISHED))).completions.create(
        model="m", prompt="x"
    )
    assert completion.choices[0].text == "Once there was once"
    assert completion.id == "cmpl-1"
    assert completion.choices[0].to_dict()["stop_reason"] == "."


def test_an_error_inside_the_stream_is_told() -> None:
    encoder = call(stream=True).encoder()
    assert b'"code":"overloaded"' in encoder.start(ADMITTED) + encoder.error(Overloaded("busy"))


def test_a_heartbeat_tells_how_far_the_prompt_is() -> None:
    encoder = call(stream=True).encoder()
    encoder.start(ADMITTED)
    assert b"prefill" not in encoder.heartbeat()
    assert encoder.feed(PrefillProgress(50, 100)) == b""
    ((_, beat),) = records(encoder.heartbeat())
    assert (beat["choices"], beat["prefill"]) == ([], {"num_computed_tokens": 50, "num_prompt_tokens": 100})
