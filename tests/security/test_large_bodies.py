"""Requests of many megabytes at once: what they take together is bounded, and small ones go on."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from omlx.server.api.body_budget import FREE_BYTES, BodyBudget
from omlx.server.errors import Overloaded
from omlx.server.requests import GenerationRequest

from ..api.serving import serving
from ..api.test_server import MESSAGES, MESSAGES_BODY
from ..torture.oversize import faults, oversize, parts
from ..waiting import until

LIMIT = 4 * FREE_BYTES


class Client:
    """Sends a body in pieces of 64 KiB to an application that reads it and then waits for `is_read`."""

    def __init__(self, budget: BodyBudget, size: int) -> None:
        self._pieces = [b"x" * 65536] * (size // 65536)
        self.may_end = asyncio.Event()
        self.is_read = asyncio.Event()
        self.task = asyncio.create_task(budget({"type": "http", "client": self}, self._receive, None))  # pyright: ignore

    async def _receive(self) -> dict:
        piece = self._pieces.pop()
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


async def application(scope: dict, receive, _send) -> None:
    while (await receive())["more_body"]:
        pass
    scope["client"].is_read.set()
    await scope["client"].may_end.wait()


@pytest.fixture
def budget() -> BodyBudget:
    return BodyBudget(application, LIMIT)  # pyright: ignore[reportArgumentType]


async def test_a_large_body_that_finds_no_room_is_told_to_come_back(budget: BodyBudget):
    first = Client(budget, LIMIT)
    await first.is_read.wait()
    with pytest.raises(Overloaded) as told:
        await Client(budget, 2 * FREE_BYTES).task
    assert told.value.retry_after
    first.may_end.set()
    await first.task


async def test_a_small_body_finds_room_whatever_the_large_ones_take(budget: BodyBudget):
    await Client(budget, LIMIT).is_read.wait()
    async with asyncio.timeout(60):
        await Client(budget, FREE_BYTES).is_read.wait()


async def test_the_room_is_free_again_when_the_answer_has_ended_well_or_badly(budget: BodyBudget):
    first = Client(budget, LIMIT)
    await first.is_read.wait()
    first.task.cancel()
    await asyncio.wait([first.task])
    async with asyncio.timeout(60):
        second = Client(budget, LIMIT)
        await second.is_read.wait()
        second.may_end.set()
        await second.task
        await Client(budget, LIMIT).is_read.wait()


@pytest.mark.parametrize("part", [{"type": "t"}, {"type": "text", "text": "a"}, [], {"": {"": {}}}])
async def test_many_small_objects_are_refused_before_they_are_decoded(
    tmp_path: Path, part: object, monkeypatch: pytest.MonkeyPatch
):
    async with serving(tmp_path, "Hi.") as server:
        monkeypatch.setattr("omlx.server.dialects.anthropic_messages.decode", unreachable)
        body = b'{"messages": [{"role": "user", "content": %b}]}' % parts(part, 8 * FREE_BYTES)
        refused = await server.client.post(MESSAGES, content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 400
    assert "more than 250000 objects" in refused.json()["error"]["message"]


def unreachable(*_: object) -> None:
    raise AssertionError("it was decoded")


def test_over_size_prompts_end_no_process_under_a_limit_of_memory():
    counts = oversize(2, window=200_000, address_space=2 << 30)
    assert not faults(counts), counts
    assert counts["too long"] + counts["too large"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_request_is_gone_at_once(tmp_path: Path, stream: bool):
    async with serving(tmp_path, "Hi.") as server:
        gc.collect()
        before = requests_alive()
        gc.disable()  # what waits for the collector may be hundreds of megabytes, a hundred times
        try:
            body = {**MESSAGES_BODY, "messages": [{"role": "user", "content": "word " * 5000}], "stream": stream}
            refused = await server.client.post(MESSAGES, json=body)
            assert refused.status_code == 400
            await until(lambda: requests_alive() <= before)
        finally:
            gc.enable()


def requests_alive() -> int:
    """How many there are in this process; other tests may keep some for good."""
    return sum(isinstance(each, GenerationRequest) for each in gc.get_objects())
