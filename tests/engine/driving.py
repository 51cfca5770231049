"""Runs an engine to the end of its work and collects what it said."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from omlx.server.engine.batch import BatchEngine
from omlx.server.engine.engine import Engine
from omlx.server.engine.memory_room import MemoryRoom
from omlx.server.engine.messages import SequenceUpdate
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits


class TickingClock:
    """A clock that moves a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Answer:
    token_ids: list[int] = field(default_factory=list)
    updates: list[SequenceUpdate] = field(default_factory=list)

    @property
    def last(self) -> SequenceUpdate:
        return self.updates[-1]


def make_engine(
    batch: BatchEngine,
    limits: SchedulerLimits | None = None,
    room: MemoryRoom | None = None,
    cancelled: Container[str] = (),
) -> Engine:
    return Engine(Scheduler(limits or SchedulerLimits(), room), batch, TickingClock(), cancelled)


def step(engine: Engine, answers: dict[str, Answer]) -> None:
    for update in engine.step().updates:
        answer = answers.setdefault(update.request_id, Answer())
        answer.token_ids += update.token_ids
        answer.updates.append(update)


def drain(engine: Engine, answers: dict[str, Answer] | None = None) -> dict[str, Answer]:
    """Step until nothing is left to do, and nothing held for who has ended."""
    answers = {} if answers is None else answers
    while engine.has_work:
        step(engine, answers)
    engine.check()
    return answers
