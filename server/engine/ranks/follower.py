"""What every rank but the first does: the calls it is told of, on its own part of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ...errors import RequestError
from .leader import DraftingBatch
from .plan import BoundPrefixes, Call, Close, Decode, Open, Prefill, PrefillTogether, Release, Sleep, decode


def follow(batch: DraftingBatch, hear: Callable[[], bytes], wait_for_wake: Callable[[float], bool]) -> None:
    """Do as rank 0 says until it closes.

    `hear` waits for its next message. `wait_for_wake` waits at most so many seconds; whether it woke us.
    """
    while True:
        for call in decode(hear()):
            if isinstance(call, Close):
                batch.close()
                return
            if isinstance(call, Sleep):
                _sleep(batch, wait_for_wake)
            else:
                _perform(batch, call)


def _perform(batch: DraftingBatch, call: Call) -> None:
    match call:
        case Open(request):
            with suppress(RequestError):  # rank 0 hears of it in the same call, and answers the client
                batch.open(request)
        case Prefill(request_id, count):
            batch.prefill(request_id, count)
        case PrefillTogether(counts):
            batch.prefill_together(counts)
        case Decode(drafts):
            batch.decode(drafts)
        case Release(request_id):
            batch.release(request_id)
        case BoundPrefixes(num_bytes):
            batch.bound_prefixes(num_bytes)


def _sleep(batch: DraftingBatch, wait_for_wake: Callable[[float], bool]) -> None:
    """Do what can wait, as an engine without requests does, until woken."""
    has_more = True
    while not wait_for_wake(0.0 if has_more else 3600.0):
        has_more = batch.idle()
