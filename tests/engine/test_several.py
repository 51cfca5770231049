"""Several answers told as one: what nobody takes is not read ahead, but left where it is joined."""

from __future__ import annotations

import asyncio

from omlx.server.engine.several import GenerationGroup
from omlx.server.events import Event, TextDelta


class Endless:
    """A generation that has a word whenever it is asked."""

    is_finished = False

    def __init__(self) -> None:
        self.num_asked = 0

    async def next(self) -> list[Event]:
        self.num_asked += 1
        await asyncio.sleep(0)
        return [TextDelta("word")]

    def close(self) -> None: ...


async def test_answers_that_nobody_takes_are_not_read_ahead():
    answers = [Endless() for _ in range(3)]
    group = GenerationGroup(answers, 3)  # pyright: ignore[reportArgumentType]
    for _ in range(100):
        await asyncio.sleep(0)
    assert sum(answer.num_asked for answer in answers) <= 2 * len(answers)
    for _ in range(30):
        assert len(await group.next()) == 1
    assert all(answer.num_asked > 5 for answer in answers)
    group.close()
