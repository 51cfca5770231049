"""How far the thread that computes is, for the threads that tell other ranks: a sign of life alone does not tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_LEAST_SECONDS = 4.0
_TIMES_THE_SLOWEST = 20
_NUM_STEPS = 32
_SAMPLE_SECONDS = 0.4
_BUSY_SHARE = 0.2
_FIRST_STEP_SECONDS = 3.0
"""What a first step may well take: kernels are compiled, weights come from the disk."""


class State(IntEnum):
    """What a rank is at. MLX waits for the others inside a step by asking again and again, which keeps a core busy:
    so who stands `STILL` in a step that goes on too long is the one the others wait for, not one of them."""

    WAITING = 0
    STILL = 1
    AT_WORK = 2


class Progress:
    """One thread says what it is at, one thing at a time; any may look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps = deque([_FIRST_STEP_SECONDS], maxlen=_NUM_STEPS)
        self._step: tuple[float, float] | None = None
        self._is_waiting = False
        self._sampled = (clock(), time.process_time())
        self._keeps_a_core_busy = True

    @property
    def state(self) -> State:
        """As of now, or by the last half second."""
        if self._is_waiting:
            return State.WAITING
        now, used = self._clock(), time.process_time()
        since = now - self._sampled[0]
        if since >= _SAMPLE_SECONDS:
            self._keeps_a_core_busy = used - self._sampled[1] > _BUSY_SHARE * since
            self._sampled = (now, used)
        return State.AT_WORK if self._keeps_a_core_busy else State.STILL

    @property
    def limit_seconds(self) -> float:
        """What a step may take: 4 seconds, or 20 times the slowest of the last 32 where that is more.

        The scheduler keeps a prefill chunk to about a second, so that a machine in health stays far below.
        """
        return max(_LEAST_SECONDS, _TIMES_THE_SLOWEST * max(self._steps))

    @property
    def overdue_seconds(self) -> float:
        """For how long the step under way has been going on, where that is more than it may; else 0."""
        step = self._step
        if step is None:
            return 0.0
        started, limit = step
        taken = self._clock() - started
        return taken if taken > limit else 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Something is computed whose time the scheduler bounds."""
        started = self._clock()
        with self.long_step(self.limit_seconds):
            yield
        self._steps.append(self._clock() - started)

    @contextmanager
    def long_step(self, limit_seconds: float) -> Iterator[None]:
        """Something is done that may take so long, and tells nothing of the next step's time."""
        self._step = (self._clock(), limit_seconds)
        try:
            yield
        finally:
            self._step = None

    def while_waiting(self, call: Callable[P, R]) -> Callable[P, R]:
        """The same, by which another rank is waited for."""

        def waiting(*arguments: P.args, **named: P.kwargs) -> R:
            self._is_waiting = True
            try:
                return call(*arguments, **named)
            finally:
                self._is_waiting = False

        return waiting
