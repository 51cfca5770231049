"""How far the thread that computes is, for the threads that tell other ranks: a sign of life alone does not tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import ParamSpec, TypeAlias, TypeVar

from ..messages import Alive, Command, Submit

P = ParamSpec("P")
R = TypeVar("R")
Kind: TypeAlias = tuple[str | int, ...]

PIECE_SECONDS = 0.4
"""What a group's scheduler lets a piece of a prompt take, where it can be cut that small: with it, and a quarter more,
a stalled step is noticed after `_LEAST_SECONDS`."""
_LEAST_SECONDS = 4.0
_TIMES_THE_SLOWEST = 8
_TIMES_STREAMS_WAIT = 1.5
"""Of the slowest likewise. Streams that end in vain cost a request, a group that ends in vain a minute."""
_NUM_STEPS = 8
_UNKNOWN_SECONDS = 60.0
"""What a step may take of which nothing is known, while all ranks are at work: a kernel may be compiled for it."""
_UNASKED_SECONDS = 60.0
_WARM_UP_SECONDS = 600.0
"""For the first step of all, the weights may come from the disk, and a hundred kernels be compiled."""
_LOAD_SECONDS = 300.0
"""For 128 MiB of weights, of which a rank that keeps a slice has more to read, or for one array, if that is larger; all
ranks may share a slow disk."""
_MOST_BEATS = 8
"""So often rank 0's server may be heard while nothing is done: four seconds of a server that goes on itself."""
_SERVER_SECONDS = 20.0
_SAMPLE_SECONDS = 0.9
_BUSY_SHARE = 0.05
"""Of a core. Who waits takes all it can get, on a machine with other work perhaps a tenth."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What is under way since `started`: it may take `limit` seconds where a rank stands still meanwhile, and `longest`
    where all are at work; streams wait for it for `patience` seconds. If it `can_wait`, and somebody asks for
    something, that changes."""

    started: float
    limit: float
    longest: float
    patience: float = inf
    can_wait: bool = False


class State(IntEnum):
    """What a rank is at. MLX waits for the others inside a step by asking again and again, which keeps a core busy:
    so who stands `STILL` in a step that goes on too long is the one the others wait for, not one of them."""

    WAITING = 0
    STILL = 1
    AT_WORK = 2


class Progress:
    """One thread says what it is at, one thing at a time; any may look. On rank 0 others say what the server and the
    other ranks say.

    To end a group that is only slow is worse than to be late, so a step may take several times what others took. A
    group has taken each kind of step while it `warms_up`, so that in the first one that it serves, too, a stall is told
    from the making of kernels. What is new even so, such as a context longer than any before, may take several times
    the slowest step there has been; and where no rank stands still, a minute: to compile a kernel keeps a core busy.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[Kind, deque[float]] = {}
        self._step: _Step | None = None
        self._told_of: _Step | None = None
        self._is_warming_up = False
        self._is_waiting = False
        self._went_on_at = clock()
        self._num_unheeded: int | None = None
        self._heard_at: float | None = None
        self._asked_at = clock()
        self._sampled = (clock(), time.process_time())
        self._keeps_a_core_busy = True
        self.num_pieces = 0
        """How often it has gone on within a step, ever."""

    @property
    def state(self) -> State:
        """As of now, or by the last second."""
        if self._is_waiting:
            return State.WAITING
        now, used = self._clock(), time.process_time()
        since = now - self._sampled[0]
        if since >= _SAMPLE_SECONDS:
            self._keeps_a_core_busy = used - self._sampled[1] > _BUSY_SHARE * since
            self._sampled = (now, used)
        return State.AT_WORK if self._keeps_a_core_busy else State.STILL

    def _begun(self, kind: Kind) -> _Step:
        """A step that begins now, with what it may take.

        Streams wait for 4 seconds, or one and a half times the slowest of the last 8 of its kind where that is more.
        The group may take 4 seconds, or 8 times the slowest. Of a kind that has no times yet, the slowest of any kind
        is meant, and where no rank stands still the group has at least a minute.
        """
        if self._is_warming_up:
            return _Step(self._clock(), _WARM_UP_SECONDS, _WARM_UP_SECONDS)
        taken = self._taken.get(kind)
        slowest = max(taken or (max(each) for each in self._taken.values() if each), default=0.0)
        limit = max(_LEAST_SECONDS, _TIMES_THE_SLOWEST * slowest)
        longest = limit if taken else max(_UNKNOWN_SECONDS, limit)
        return _Step(self._clock(), limit, longest, max(_LEAST_SECONDS, _TIMES_STREAMS_WAIT * slowest))

    def overdue_seconds(self, stands_still: bool = True) -> float:
        """For how long the step under way has got no further, where that is more than it may; else 0. `stands_still`:
        whether a rank does."""
        step = self._step
        if step is None:
            return 0.0
        if not stands_still:
            return self._more_than(step.longest, step)
        return self._more_than(_LEAST_SECONDS if self._is_asked_for(step) else step.limit, step)

    def stalled_seconds(self) -> float:
        """For how long the step under way has got no further, where that is more than streams may wait, once a step;
        else 0. It may go on yet: a kernel is compiled for it, say."""
        step = self._step
        if step is None or step is self._told_of:
            return 0.0
        stalled = self._more_than(_LEAST_SECONDS if self._is_asked_for(step) else step.patience, step)
        if stalled:
            self._told_of = step
        return stalled

    def _is_asked_for(self, step: _Step) -> bool:
        return step.can_wait and self._asked_at > step.started

    def _more_than(self, limit: float, step: _Step) -> float:
        """For how long the step has got no further, where that is more than the limit; else 0."""
        since = self._asked_at if self._is_asked_for(step) else max(step.started, self._went_on_at)
        taken = self._clock() - since
        return taken if taken > limit else 0.0

    @contextmanager
    def warms_up(self) -> Iterator[None]:
        """Steps are taken that nobody waits for, so that their times are known. Each may take ten minutes."""
        self._is_warming_up = True
        try:
            yield
        finally:
            self._is_warming_up = False
            self._num_unheeded = None

    @contextmanager
    def loads(self) -> Iterator[None]:
        """The model is loaded, on all ranks at once. After five minutes in which none of them went on, one that stands
        still is stuck; after ten one that does not, since its first passes compile kernels."""
        with self._under_way(_Step(self._clock(), _LOAD_SECONDS, _WARM_UP_SECONDS)):
            yield
        self._num_unheeded = None

    @contextmanager
    def step(self, *kind: str | int) -> Iterator[None]:
        """Something is computed that takes about as long as other steps of its kind, a few times longer at most.

        Without a kind it is like no other: its time tells nothing of theirs.
        """
        step = self._begun(kind)
        with self._under_way(step):
            yield
        if kind:
            self._note(kind, self._clock() - step.started)

    def _note(self, kind: Kind, seconds: float) -> None:
        is_first = kind not in self._taken
        taken = self._taken.setdefault(kind, deque(maxlen=_NUM_STEPS))
        if not is_first or seconds * _TIMES_THE_SLOWEST <= _LEAST_SECONDS:  # a slow first one had things to make ready
            taken.append(seconds)

    @contextmanager
    def errand(self) -> Iterator[None]:
        """Something is done that nobody waits for, on this rank alone. It may take a minute; or four seconds more, once
        a request has come."""
        with self._under_way(_Step(self._clock(), _UNASKED_SECONDS, _UNASKED_SECONDS, can_wait=True)):
            yield

    @contextmanager
    def _under_way(self, step: _Step) -> Iterator[None]:
        self._step = step
        try:
            yield
        finally:
            self._step = None
            self.turn()

    def turn(self) -> None:
        """The thread that computes goes on, though it computes nothing."""
        self._num_unheeded = 0

    def go_on(self) -> None:
        """A piece of the step under way is done; its time begins anew. Any thread may say so."""
        self.num_pieces += 1
        self.hear_other()

    def hear_other(self) -> None:
        """Another rank goes on within the step that this one is in, too."""
        self._went_on_at = self._clock()

    def hear_server(self, command: Command) -> None:
        """The server says something: twice a second, at least that it lives."""
        self._heard_at = self._clock()
        if isinstance(command, Submit):
            self._asked_at = self._heard_at
        if isinstance(command, Alive) and self._num_unheeded is not None and self._step is None:
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
