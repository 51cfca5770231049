"""What the engine said and a reader has not taken yet."""

from __future__ import annotations

import asyncio

import pytest

from omlx.server.engine.engine_stream import EngineStream, Take
from omlx.server.engine.messages import SequenceUpdate
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


@pytest.mark.parametrize("window", [0, 1, 512])
async def test_a_prompt_that_memory_has_no_room_for_is_refused_with_the_length_that_it_has(window: int):
    refused = stream()
    refused.put(SequenceUpdate("a", error=f"{ContextOverflow.code}: {ContextOverflow(700, window)}"))
    with pytest.raises(ContextOverflow) as caught:
        await refused.next()
    assert str(caught.value) == str(ContextOverflow(700, window))
    assert (caught.value.num_tokens, caught.value.context_window) == (700, max(1, window))


async def test_only_a_request_that_has_not_ended_is_cancelled():
    cancelled: list[str] = []
    ended, left = EngineStream(lambda: cancelled.append("ended")), EngineStream(lambda: cancelled.append("left"))
    ended.put(SequenceUpdate("a", finish_reason=FinishReason.STOP))
    await ended.next()
    ended.close()
    left.close()
    left.close()
    assert cancelled == ["left"]


def nothing_left(_: SequenceUpdate) -> None:
    pass


async def waiting_reader(read: EngineStream, take: Take) -> asyncio.Task[SequenceUpdate]:
    reader = asyncio.create_task(read.next(take))
    await asyncio.sleep(0)
    return reader


async def test_who_waits_is_woken_only_for_what_is_left():
    taken: list[int] = []

    def take_all_but_the_end(update: SequenceUpdate) -> SequenceUpdate | None:
        taken.extend(update.token_ids)
        return update if update.finish_reason else None

    told = stream()
    reader = await waiting_reader(told, take_all_but_the_end)
    for number in range(3):
        told.put(SequenceUpdate("a", token_ids=[number]))
    await asyncio.sleep(0)
    assert taken == [0, 1, 2]
    assert not reader.done()
    told.put(SequenceUpdate("a", finish_reason=FinishReason.STOP))
    assert (await reader).finish_reason is FinishReason.STOP


async def test_what_comes_before_a_woken_reader_runs_waits_for_it():
    told = stream()
    reader = await waiting_reader(told, lambda update: update)
    told.put(SequenceUpdate("a", token_ids=[1]))
    told.put(SequenceUpdate("a", token_ids=[2]))
    assert (await reader).token_ids == [1, 2]
    told.put(SequenceUpdate("a", token_ids=[3]))
    assert (await told.next(nothing_left)).token_ids == [3]


async def test_an_error_of_who_takes_is_its_readers_and_the_engine_is_told_to_stop():
    cancelled: list[str] = []
    offered: list[SequenceUpdate] = []

    def fail(update: SequenceUpdate) -> None:
        offered.append(update)
        raise ZeroDivisionError

    failing = EngineStream(lambda: cancelled.append("failing"))
    reader = await waiting_reader(failing, fail)
    failing.put(SequenceUpdate("a", token_ids=[1]))
    failing.put(SequenceUpdate("a", token_ids=[2]))
    with pytest.raises(ZeroDivisionError):
        await reader
    assert len(offered) == 1
    failing.close()
    assert cancelled == ["failing"]


async def test_a_reader_that_has_gone_is_offered_nothing_more():
    taken: list[SequenceUpdate] = []
    left = stream()
    reader = await waiting_reader(left, taken.append)
    reader.cancel()
    await asyncio.wait({reader})
    left.put(SequenceUpdate("a", token_ids=[1]))
    assert not taken
