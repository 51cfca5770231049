"""Inputs of all requests are encoded together, within bounds, and come back in their own order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omlx.server.engine import encoding
from omlx.server.engine.batch import BatchInfo
from omlx.server.engine.encoding import EncodingEngine
from omlx.server.engine.engine import MOST_FAILED
from omlx.server.engine.messages import Encode, EncoderInput, Submit
from omlx.server.errors import EngineFailure

from .driving import TickingClock


class CountingEncoder:
    """A text's vector is its length; `batches` holds the lengths of what was encoded together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.info = BatchInfo("script", 0)
        self.num_rests = 0

    def encode(self, inputs: Sequence[EncoderInput]) -> list[bytes]:
        self.batches.append([len(each.token_ids) for each in inputs])
        return [bytes([len(each.token_ids)]) for each in inputs]

    def rest(self) -> None:
        self.num_rests += 1


def encode(name: str, *lengths: int) -> Encode:
    return Encode(name, [EncoderInput([0] * length) for length in lengths])


def drained(engine: EncodingEngine) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    while engine.has_work:
        for update in engine.step().updates:
            assert update.finish_reason is not None
            found[update.request_id] = [vector[0] for vector in update.vectors]
    return found


def test_requests_share_a_batch_and_keep_their_order():
    encoder = CountingEncoder()
    engine = EncodingEngine(encoder, TickingClock())
    engine.submit(encode("a", 3, 9, 5))
    engine.submit(encode("b", 2))

    assert drained(engine) == {"a": [3, 9, 5], "b": [2]}
    assert len(encoder.batches) == 1


def test_a_batch_is_bounded_by_rows_and_by_tokens():
    encoder = CountingEncoder()
    engine = EncodingEngine(encoder, TickingClock())
    engine.submit(encode("many", *[4] * (encoding.MAX_ROWS + 1)))
    engine.submit(encode("long", 200, *[100] * 3))
    drained(engine)

    assert [len(batch) for batch in encoder.batches[:1]] == [encoding.MAX_ROWS]
    assert all(max(batch) * len(batch) <= encoding.MAX_BATCH_TOKENS for batch in encoder.batches)


def test_an_input_over_the_bound_goes_alone():
    encoder = CountingEncoder()
    engine = EncodingEngine(encoder, TickingClock())
    engine.submit(encode("a", 1, 1))
    engine.submit(Encode("huge", [EncoderInput([0] * (encoding.MAX_BATCH_TOKENS + 1))]))
    encoder.encode = lambda inputs: encoder.batches.append([len(inputs)]) or [b"\0" for _ in inputs]  # type: ignore[method-assign]
    drained(engine)

    assert encoder.batches == [[2], [1]]


def test_a_cancelled_request_is_not_encoded():
    encoder = CountingEncoder()
    engine = EncodingEngine(encoder, TickingClock())
    engine.submit(encode("a", 1))
    engine.cancel("a")

    assert (drained(engine), encoder.batches) == ({}, [])


def test_the_age_of_what_waits_is_told():
    engine = EncodingEngine(CountingEncoder(), TickingClock())
    engine.submit(encode("a", *[1] * (encoding.MAX_ROWS + 1)))
    stats = engine.step().stats

    assert stats.num_waiting == 1
    assert stats.waiting_seconds > 0


def test_who_asks_it_to_write_is_refused():
    engine = EncodingEngine(CountingEncoder(), TickingClock())
    engine.submit(Submit("a", [1], 5))

    assert "writes none" in engine.step().updates[0].error


def test_at_rest_it_gives_memory_back():
    encoder = CountingEncoder()
    EncodingEngine(encoder, TickingClock()).rest()

    assert encoder.num_rests == 1


class SpoiltEncoder(CountingEncoder):
    """Fails at a text of seven tokens."""

    def encode(self, inputs: Sequence[EncoderInput]) -> list[bytes]:
        vectors = super().encode(inputs)
        if 7 in self.batches[-1]:
            raise ValueError("a poison")
        return vectors


def test_of_texts_encoded_together_only_the_request_at_fault_fails():
    engine = EncodingEngine(SpoiltEncoder(), TickingClock())
    for name, lengths in {"a": [3, 9], "bad": [2, 7, 4], "b": [5]}.items():
        engine.submit(encode(name, *lengths))
    updates = {update.request_id: update for update in engine.step().updates}
    assert [[vector[0] for vector in updates[name].vectors] for name in "ab"] == [[3, 9], [5]]
    assert updates["bad"].error.startswith("request_failed: ")
    assert not engine.has_work


def test_many_that_fail_in_a_row_end_the_engine():
    engine = EncodingEngine(SpoiltEncoder(), TickingClock())
    for number in range(MOST_FAILED - 1):
        engine.submit(encode(f"bad{number}", 7))
        engine.step()
    engine.submit(encode("last", 7))
    with pytest.raises(EngineFailure, match="in a row failed"):
        engine.step()
