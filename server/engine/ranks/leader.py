"""Rank 0's batch: its own one, with every call told to the other ranks first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ...errors import EngineFailure
from ..batch import BatchEngine, BatchInfo, Logprobs, MemoryUse, PrefixReport
from ..messages import Batching, DraftStats, RankMemory, Submit
from ..speculation import Draft
from .plan import BoundPrefixes, Call, Close, Decode, Open, Prefill, PrefillTogether, Release, Sleep, encode
from .progress import Progress

logger = logging.getLogger(__name__)

_CONTEXT_TOKENS = 4096
"""So much of a prompt before it hardly counts for what a piece takes."""


class DraftingBatch(BatchEngine, Protocol):
    """A batch whose guesses can be asked for, and given to it."""

    def draft(self) -> dict[str, Draft]: ...

    def decode(self, drafts: Mapping[str, Draft] | None = None) -> dict[str, list[int]]: ...


class Others(Protocol):
    """The other ranks, by the link that tells who is alive."""

    def memory(self) -> list[RankMemory]:
        """What every rank holds, rank 0 first."""
        ...

    def wake(self) -> None: ...

    def lost(self) -> str:
        """Why a rank is missing; waits a moment for the reason. "" where none is."""
        ...

    def close(self) -> None: ...


class LeaderBatch:
    """Implements `BatchEngine`. `broadcast` sends bytes to all other ranks; `progress` is told what it is at.

    A lost rank ends every call with `EngineFailure`, which names it.
    """

    def __init__(
        self, batch: DraftingBatch, broadcast: Callable[[bytes], object], others: Others, progress: Progress
    ) -> None:
        self._batch = batch
        self._progress = progress
        self._broadcast = broadcast
        self._others = others
        self._untold: list[Call] = []
        self._bound = -1
        self._asleep = False
        self._broken = False
        self._done: dict[str, int] = {}  # how many tokens of the prompts under way are computed

    @property
    def info(self) -> BatchInfo:
        return self._batch.info

    @property
    def batching(self) -> Batching:
        return self._batch.batching

    def match(self, request: Submit) -> int:
        self._progress.turn()  # many long prompts may be looked up between two steps
        return self._batch.match(request)

    def fetch(self, request: Submit) -> Iterator[bool]:
        del request  # the others would wait for their own disks all the same
        return iter(())

    def open(self, request: Submit) -> int:
        with self._progress.step(), self._together(Open(request)):
            self._done[request.request_id] = done = self._batch.open(request)
            return done

    def prefix(self, request_id: str) -> PrefixReport:
        return self._batch.prefix(request_id)

    def listen(self, go_on: Callable[[], bool]) -> None:
        """It is never asked: all ranks would have to hear of it between the same two layers. Who leaves amid a piece is
        heard at its end."""

    def prefill(self, request_id: str, count: int) -> list[int]:
        with self._progress.step(*self._kind({request_id: count})), self._together(Prefill(request_id, count)):
            return self._batch.prefill(request_id, count)

    @property
    def takes_prompts_together(self) -> bool:
        return self._batch.takes_prompts_together

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        with self._progress.step(*self._kind(counts)), self._together(PrefillTogether(dict(counts))):
            return self._batch.prefill_together(counts)

    def _kind(self, counts: Mapping[str, int]) -> tuple[str | int, ...]:
        """Of pieces of prompts: how long they are together, and how far into a prompt."""
        done = max(self._done[request_id] for request_id in counts)
        for request_id, count in counts.items():
            self._done[request_id] += count
        return ("prefill", sum(counts.values()).bit_length(), (done // _CONTEXT_TOKENS).bit_length())

    def decode(self) -> dict[str, list[int]]:
        with self._progress.step():
            drafts = self._batch.draft()
        num_drafted = sum(len(draft.token_ids) for draft in drafts.values())
        with self._progress.step("decode", num_drafted.bit_length()), self._together(Decode(drafts)):
            return self._batch.decode(drafts)

    def logprobs(self, request_id: str) -> Logprobs:
        return self._batch.logprobs(request_id)

    def release(self, request_id: str) -> None:
        self._untold.append(Release(request_id))  # nothing is computed: it can go with the next call
        self._done.pop(request_id, None)
        self._batch.release(request_id)

    def bound_prefixes(self, num_bytes: int) -> None:
        if num_bytes != self._bound:
            self._bound = num_bytes
            self._untold.append(BoundPrefixes(num_bytes))
        self._batch.bound_prefixes(num_bytes)

    def memory(self) -> MemoryUse:
        self._progress.turn()  # asked for in every turn
        return replace(self._batch.memory(), ranks=self._others.memory())

    @property
    def drafts(self) -> list[DraftStats]:
        return self._batch.drafts

    def check(self) -> None:
        self._batch.check()

    def idle(self) -> bool:
        if not self._asleep:
            with self._progress.step("sleep"), self._together(Sleep()):
                self._asleep = True
        with self._progress.errand():
            return self._batch.idle()

    def rest(self) -> None:
        with self._progress.errand():
            self._batch.rest()

    def close(self) -> None:
        self.end()
        if not self._broken:
            self._others.close()

    def end(self) -> None:
        """Let the others follow no longer, and close the batch; the links stay."""
        if self._broken:
            self._batch.close()
            return
        with self._progress.errand(), self._together(Close()):
            self._batch.close()

    @contextmanager
    def _together(self, call: Call) -> Iterator[None]:
        """Tell the others of the call, which follows."""
        calls, self._untold = [*self._untold, call], []
        if self._asleep:
            self._others.wake()
            self._asleep = False
        try:
            self._broadcast(encode(calls))
            yield
        except RuntimeError as error:  # what MLX raises when a collective fails
            self._broken = True
            logger.error("%s", error)
            raise EngineFailure(self._others.lost() or f"rank 0: {error}") from error
