"""Whatever comes in whatever order, every request is computed in full, once, within the memory there is, and nothing is
held that has ended."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from omlx.server.cache.blocks import BLOCK_TOKENS
from omlx.server.engine import memory_room
from omlx.server.engine.memory_room import MemoryRoom
from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.sequence import Sequence, SequenceStatus
from omlx.server.errors import ContextOverflow
from omlx.server.models.footprint import Footprint

from ..machines import CountingMachine, short

LIMITS = SchedulerLimits(max_num_seqs=3, max_num_waiting=4, grid=16, min_chunk=4, max_chunk=64, max_together=96)
SECONDS = st.floats(1e-6, 1e-3) | st.floats(1e-6, 10)
ROOMS = st.integers(0, 200) | st.integers(0, 1500)
"""In tokens, beside the weights."""
LENGTHS = st.integers(1, 40) | st.integers(1, 200) | st.integers(200, 600)
EXPECTED_TOKENS = 8
"""Of an answer; some become longer, so that rows outgrow their memory."""
FOOTPRINTS = st.builds(
    Footprint,
    weight_bytes=st.just(1000),
    token_bytes=st.just(10),
    state_bytes=st.sampled_from([0, 500]),
    windows=st.sampled_from([(), ((32, 5),)]),
    chunk_bytes=st.just(100),
    score_bytes=st.integers(0, 2),
    growth_tokens=st.sampled_from([1, 16]),
)


class SchedulerMachine(CountingMachine):
    """An engine without a model: it does what the scheduler says, in any order a server may ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, Sequence] = {}
        self.computed: dict[str, int] = {}
        self.number = 0
        self.now = 0.0
        self.longest_step = 0.0
        self.usual_tokens, memory_room.EXPECTED_ANSWER_TOKENS = memory_room.EXPECTED_ANSWER_TOKENS, EXPECTED_TOKENS

    @initialize(
        footprint=st.none() | FOOTPRINTS,
        num_tokens=ROOMS,
        large=st.sampled_from([0, 64]),
        batching=st.sampled_from(["undecided", "batched", "padded", "serial"]),
    )
    def begin(self, footprint: Footprint | None, num_tokens: int, large: int, batching: str) -> None:
        self.footprint, self.batching = footprint, batching
        self.room = MemoryRoom(footprint, 1100 + 10 * num_tokens, large, lambda: self.batching)
        self.scheduler = Scheduler(LIMITS, self.room)

    @rule(
        length=LENGTHS,
        stem=st.integers(0, 4),
        cached=st.floats(0, 1),
        background=st.booleans(),
        salt=st.sampled_from(["", "a"]),
        max_tokens=st.integers(1, 40),
    )
    def arrive(self, length: int, stem: int, cached: float, background: bool, salt: str, max_tokens: int) -> None:
        self.number += 1
        request_id = f"r{self.number}"
        request = Submit(request_id, [stem] * length, max_tokens, background=background, cache_salt=salt)
        if self.footprint is not None and self.footprint.total_bytes(length + 1) > self.room.limit_bytes:
            with pytest.raises(ContextOverflow):
                self.room.check(request)
            return
        self.room.check(request)
        waiting = len(self.scheduler.waiting)
        sequence = self.scheduler.add(request, int(cached * (length - 1)), self.now)
        assert (sequence is None) == (waiting >= LIMITS.max_num_waiting)
        if sequence is not None:
            self.live[request_id] = sequence

    @rule(
        seconds=SECONDS,
        share=st.floats(0, 1),
        decode_seconds=SECONDS,
        brought=st.integers(1, 6),
        together=st.booleans(),
        fails=st.booleans(),
    )
    def turn(
        self, seconds: float, share: float, decode_seconds: float, brought: int, together: bool, fails: bool
    ) -> None:
        """A step of the rows and the prompts after it, as the engine takes them."""
        output = self.scheduler.schedule(self.now)
        assert all(sequence.is_decoding for sequence in output.decode)
        assert len({sequence.request_id for sequence in output.decode}) == len(output.decode)
        if output.decode:
            self.decode(output.decode, brought, decode_seconds)
            output = self.scheduler.schedule(self.now)
        if output.prefill is not None:
            self.compute_prompts(output.prefill, bool(output.decode), share, seconds, together, fails)
        elif not output.decode:
            assert not self.live, "there is work, and the scheduler finds none"
        self.keep_within_memory()

    @precondition(lambda self: self.live)
    @rule(times=st.integers(2, 20), brought=st.integers(1, 6))
    def turns(self, times: int, brought: int) -> None:
        """Long enough for prompts to be computed, and answers to be written."""
        for _ in range(times):
            self.turn(1e-4, 0.0, 1e-4, brought, together=False, fails=False)

    def decode(self, rows: tuple[Sequence, ...], brought: int, seconds: float) -> None:
        self.scheduler.observe_decode(seconds)
        self.longest_step = max(self.longest_step, seconds)
        self.now += seconds
        for row in rows:
            row.num_output_tokens += brought
            if row.num_output_tokens >= row.request.max_tokens:
                self.end(row.request_id)
        self.keep_within_memory()

    def compute_prompts(
        self, sequence: Sequence | None, decoding: bool, share: float, seconds: float, together: bool, fails: bool
    ) -> None:
        spent, patience = 0.0, max(LIMITS.decode_gap_seconds, LIMITS.decode_gap_steps * self.longest_step)
        while sequence is not None:
            self.compute(sequence, decoding, spent, share, seconds, together, fails)
            spent += seconds
            self.now += seconds
            sequence = self.scheduler.another(spent, self.now)
            if sequence is not None:
                assert any(row.is_decoding for row in self.scheduler.running), "more pieces, and nobody to wait"
                assert spent <= patience, "rows wait for longer than they may"

    def compute(
        self,
        sequence: Sequence,
        decoding: bool,
        spent: float,
        share: float,
        seconds: float,
        together: bool = False,
        fails: bool = False,
    ) -> None:
        if sequence.status is SequenceStatus.WAITING:
            self.open(sequence, share)
        count = self.scheduler.chunk(sequence, decoding)
        assert 1 <= count <= LIMITS.max_chunk
        if together and count == sequence.num_remaining_tokens:
            group = [sequence, *self.company(sequence, decoding, spent, share)]
            if len(group) > 1:
                self.compute_together(group, fails)
                return
        before = sequence.num_computed_tokens
        self.scheduler.observe_piece(sequence, count, seconds, decoding)
        assert sequence.max_piece >= LIMITS.min_chunk
        sequence.num_computed_tokens += count
        self.computed[sequence.request_id] += count
        assert sequence.num_computed_tokens <= sequence.num_prompt_tokens
        if sequence.is_prefilling:
            assert (before + count) % LIMITS.min_chunk == 0, "a chunk ends off the grid"

    def open(self, sequence: Sequence, share: float) -> None:
        running = self.scheduler.running
        assert not running or self.room.left([*running, sequence]) >= 0, "opened, and there is no room"
        cached = int(share * (sequence.num_prompt_tokens - 1))
        self.scheduler.start(sequence, cached)
        self.computed[sequence.request_id] = cached

    def company(self, first: Sequence, decoding: bool, spent: float, share: float) -> list[Sequence]:
        """Those opened that have as much in the cache as was thought."""
        group = self.scheduler.company(first, decoding, self.now, spent)
        members = [first, *group]
        assert len({member.request_id for member in members}) == len(members)
        assert all(member.status is SequenceStatus.WAITING and not member.goes_alone for member in group)
        assert len(group) + len(self.scheduler.running) <= LIMITS.max_num_seqs
        if group:
            lengths = [member.num_remaining_tokens for member in members]
            assert len(lengths) * max(lengths) <= LIMITS.max_together
            assert len({member.request.background for member in members}) == 1
            assert not first.goes_alone
            for member, length in zip(members, lengths, strict=True):
                start = member.num_prompt_tokens - length
                assert start // BLOCK_TOKENS == member.num_prompt_tokens // BLOCK_TOKENS, "a whole block in company"
        opened: list[Sequence] = []
        for member in group:
            expected = member.num_remaining_tokens
            self.open(member, share)
            if member.num_remaining_tokens <= expected:
                opened.append(member)
        return opened

    def compute_together(self, group: list[Sequence], fails: bool) -> None:
        for sequence in group:
            if fails:
                self.scheduler.put_back(sequence, 0)
                del self.computed[sequence.request_id]
            else:
                sequence.num_computed_tokens = self.computed[sequence.request_id] = sequence.num_prompt_tokens

    def keep_within_memory(self) -> None:
        if self.room.left(self.scheduler.running) >= 0:
            return
        while (last := self.room.first_to_end(self.scheduler.running)) is not None:
            assert last.arrived == max(sequence.arrived for sequence in self.scheduler.running)
            assert len(self.scheduler.running) > 1 or last.num_output_tokens, "let in, and no room for a token"
            self.end(last.request_id)

    def end(self, request_id: str) -> None:
        assert self.scheduler.remove(request_id) is self.live.pop(request_id)
        self.computed.pop(request_id, None)
        assert self.scheduler.remove(request_id) is None

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A request ends or is cancelled, wherever it stands."""
        self.end(data.draw(st.sampled_from(sorted(self.live))))

    @rule(num_tokens=ROOMS)
    def other_models_come_and_go(self, num_tokens: int) -> None:
        self.room.limit_bytes = 1100 + 10 * num_tokens
        for sequence in [sequence for sequence in self.live.values() if not sequence.num_output_tokens]:
            try:
                self.room.check(sequence.request)
            except ContextOverflow:
                self.end(sequence.request_id)
        self.keep_within_memory()

    @precondition(lambda self: self.batching == "undecided")
    @rule(batching=st.sampled_from(["batched", "padded", "serial"]))
    def the_way_of_decoding_is_known(self, batching: str) -> None:
        self.batching = batching
        self.keep_within_memory()

    @invariant()
    def the_books_agree(self) -> None:
        waiting, running = self.scheduler.waiting, self.scheduler.running
        assert {sequence.request_id for sequence in (*waiting, *running)} == set(self.live)
        assert len(running) <= LIMITS.max_num_seqs
        assert len(waiting) <= LIMITS.max_num_waiting + LIMITS.max_num_seqs  # with those that were put back
        assert {sequence.request_id: sequence.num_computed_tokens for sequence in running} == self.computed

    @invariant()
    def memory_holds_what_runs(self) -> None:
        """By what the rows are now, each as long as it is or all as long as the longest."""
        running = self.scheduler.running
        if self.footprint is None or not running:
            return
        lengths = [sequence.num_prompt_tokens + sequence.num_output_tokens for sequence in running]
        if self.batching in ("undecided", "padded"):
            lengths = [max(lengths)] * len(lengths)
        held = sum(map(self.footprint.held_bytes, lengths))
        work = max(self.footprint.transient_bytes(sequence.num_prompt_tokens) for sequence in running)
        assert self.footprint.weight_bytes + held + work <= self.room.limit_bytes

    def teardown(self) -> None:
        memory_room.EXPECTED_ANSWER_TOKENS, usual = EXPECTED_TOKENS, self.usual_tokens
        try:
            if hasattr(self, "scheduler"):
                self.nobody_starves()
        finally:
            memory_room.EXPECTED_ANSWER_TOKENS = usual

    def nobody_starves(self) -> None:
        """Who is there now comes to an end though short ones keep coming, those in the background once none do."""
        old = {request_id for request_id, sequence in self.live.items() if not sequence.request.background}
        for _ in range(5000):
            if not old & self.live.keys():
                break
            if len(self.scheduler.waiting) < LIMITS.max_num_waiting:
                self.arrive(length=3, stem=2, cached=0.0, background=False, salt="", max_tokens=1)
            self.finish_one(50.0)
        assert not old & self.live.keys(), "short prompts keep an old one waiting for ever"
        for _ in range(5000):
            if not self.live:
                break
            self.finish_one(0.01)
        assert not self.live
        assert not self.scheduler.waiting
        assert not self.scheduler.running

    def finish_one(self, seconds: float) -> None:
        """A turn in which every row writes its last token."""
        output = self.scheduler.schedule(self.now)
        assert output.decode or output.prefill is not None, "live requests, and nothing to do"
        for sequence in output.decode:
            self.end(sequence.request_id)
        if output.prefill is not None:
            self.compute(output.prefill, bool(output.decode), 0.0, 0.0, 0.01)
        self.now += seconds


SchedulerMachine.TestCase.settings = short(60, 40)
test_any_order_of_events = SchedulerMachine.TestCase
