"""What the engine said and a reader has not taken yet."""

from __future__ import annotations

import pytest

from omlx.server.engine.messages import SequenceUpdate
from omlx.server.engine.process import EngineStream
from omlx.server.errors import ContextOverflow, EngineFailure, Overloaded
from omlx.server.events import FinishReason


def stream() -> EngineStream:
    return EngineStream(lambda: None)


async def test_what_a_slow_reader_missed_comes_as_one_update_with_every_token():
    slow = stream()
    for number in range(10_000):
        slow.put(SequenceUpdate("a", 7, 3, [number]))
    slow.put(SequenceUpdate("a", 7, 3, [], FinishReason.STOP))
    update = await slow.next()
    assert update == SequenceUpdate("a", 7, 3, list(range(10_000)), FinishReason.STOP)


async def test_updates_taken_in_time_are_left_as_they_are():
    prompt = stream()
    for number in range(3):
        prompt.put(SequenceUpdate("a", token_ids=[number]))
        assert (await prompt.next()).token_ids == [number]


async def test_tokens_before_an_error_come_before_it():
    failing = stream()
    failing.put(SequenceUpdate("a", token_ids=[1]))
    failing.put(EngineFailure("it crashed"))
    assert (await failing.next()).token_ids == [1]
    with pytest.raises(EngineFailure, match="it crashed"):
        await failing.next()


async def test_a_refusal_is_raised_as_the_error_it_names():
    refused = stream()
    refused.put(SequenceUpdate("a", error="overloaded: 3 requests wait already"))
    with pytest.raises(Overloaded, match="3 requests wait"):
        await refused.next()


async def test_a_prompt_that_memory_has_no_room_for_is_refused_with_the_length_that_it_has():
    refused = stream()
    refused.put(SequenceUpdate("a", error=f"{ContextOverflow.code}: {ContextOverflow(700, 512)}"))
    with pytest.raises(ContextOverflow, match="700 tokens > 511 maximum") as caught:
        await refused.next()
    assert (caught.value.num_tokens, caught.value.context_window) == (700, 512)


async def test_only_a_request_that_has_not_ended_is_cancelled():
    cancelled: list[str] = []
    ended, left = EngineStream(lambda: cancelled.append("ended")), EngineStream(lambda: cancelled.append("left"))
    ended.put(SequenceUpdate("a", finish_reason=FinishReason.STOP))
    await ended.next()
    ended.close()
    left.close()
    left.close()
    assert cancelled == ["left"]
