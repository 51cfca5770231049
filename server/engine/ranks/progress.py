"""How far the thread that computes is, for the threads that tell other ranks: a sign of life alone does not tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Kind: TypeAlias = tuple[str | int, ...]

PIECE_SECONDS = 0.4
"""What a group's scheduler lets a piece of a prompt take, where it can be cut that small: with it, and a quarter more,
a stalled step is noticed after `_LEAST_SECONDS`."""
_LEAST_SECONDS = 4.0
_TIMES_THE_SLOWEST = 8
_NUM_STEPS = 8
_NUM_FIRST_STEPS = 32
_FIRST_SECONDS = 60.0
"""What a first step may take: kernels are compiled, weights come from the disk."""
_MOST_BEATS = 8
"""So often rank 0's server may be heard while nothing is done: four seconds of a server that goes on itself."""
_SERVER_SECONDS = 20.0
_SAMPLE_SECONDS = 0.4
_BUSY_SHARE = 0.05
"""Of a core. Who waits takes all it can get, on a machine with other work perhaps a tenth."""


class State(IntEnum):
    """What a rank is at. MLX waits for the others inside a step by asking again and again, which keeps a core busy:
    so who stands `STILL` in a step that goes on too long is the one the others wait for, not one of them."""

    WAITING = 0
    STILL = 1
    AT_WORK = 2


class Progress:
    """One thread says what it is at, one thing at a time; any may look. On rank 0 another one says whenever the server
    is heard."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._num_steps = 0
        self._taken: dict[Kind, deque[float]] = {}
        self._step: tuple[float, float] | None = None
        self._is_waiting = False
        self._num_unheeded: int | None = None
        self._heard_at: float | None = None
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

    def limit_seconds(self, *kind: str | int) -> float:
        """What a step may take: 4 seconds, or 8 times the slowest of the last 8 of its kind where that is more.

        Among the first 32, and the first two of its kind, it is a minute, or 8 times the slowest of any. To end a slow
        group is worse than to be late.
        """
        taken = self._taken.get(kind)
        if taken and self._num_steps >= _NUM_FIRST_STEPS:
            return max(_LEAST_SECONDS, _TIMES_THE_SLOWEST * max(taken))
        slowest = max(map(max, filter(None, self._taken.values())), default=0.0)
        return max(_FIRST_SECONDS, _TIMES_THE_SLOWEST * slowest)

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
    def step(self, *kind: str | int) -> Iterator[None]:
        """Something is computed that takes about as long as other steps of its kind, a few times longer at most."""
        started = self._clock()
        with self.long_step(self.limit_seconds(*kind)):
            yield
        self._num_steps += 1
        if kind in self._taken:
            self._taken[kind].append(self._clock() - started)
        else:  # the first tells of what it made ready, too
            self._taken[kind] = deque(maxlen=_NUM_STEPS)

    @contextmanager
    def long_step(self, limit_seconds: float) -> Iterator[None]:
        """Something is done that may take so long, and tells nothing of the next step's time."""
        self._step = (self._clock(), limit_seconds)
        try:
            yield
        finally:
            self._step = None
            self.turn()

    def turn(self) -> None:
        """The thread that computes goes on, though it computes nothing."""
        self._num_unheeded = 0

    def hear_server(self) -> None:
        """The server says that it lives, twice a second."""
        self._heard_at = self._clock()
        if self._num_unheeded is not None and self._step is None:
            self._num_unheeded += 1

    @property
    def stands_still(self) -> bool:
        """Whether the thread that computes has stopped outside a step. The server's beats tell it, which stop where it
        is the server that keeps this process from going on."""
        return self._step is None and (self._num_unheeded or 0) >= _MOST_BEATS

    @property
    def server_silent_seconds(self) -> float:
        """For how long the server has said nothing, where that is more than it may be; else 0."""
        silence = 0.0 if self._heard_at is None else self._clock() - self._heard_at
        return silence if silence > _SERVER_SECONDS else 0.0

    def while_waiting(self, call: Callable[P, R]) -> Callable[P, R]:
        """The same, by which another rank is waited for."""

        def waiting(*arguments: P.args, **named: P.kwargs) -> R:
            self._is_waiting = True
            try:
                return call(*arguments, **named)
            finally:
                self._is_waiting = False

        return waiting
