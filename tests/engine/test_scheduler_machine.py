"""Whatever comes in whatever order, every request is computed in full, once, and nothing is held that has ended."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from omlx.server.engine.messages import Submit
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.sequence import Sequence, SequenceStatus

LIMITS = SchedulerLimits(max_num_seqs=3, max_num_waiting=4, grid=16, min_chunk=4, max_chunk=64)
SECONDS = st.floats(1e-6, 10)


class SchedulerMachine(RuleBasedStateMachine):
    """An engine without a model: it does what the scheduler says, in any order a server may ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(LIMITS)
        self.live: dict[str, Sequence] = {}
        self.computed: dict[str, int] = {}
        self.number = 0
        self.now = 0.0

    @rule(
        length=st.integers(1, 200),
        stem=st.integers(0, 1),
        cached=st.floats(0, 1),
        background=st.booleans(),
        salt=st.sampled_from(["", "a"]),
    )
    def arrive(self, length: int, stem: int, cached: float, background: bool, salt: str) -> None:
        self.number += 1
        request_id = f"r{self.number}"
        request = Submit(request_id, [stem] * length, 5, background=background, cache_salt=salt)
        waiting = len(self.scheduler.waiting)
        sequence = self.scheduler.add(request, int(cached * (length - 1)), self.now)
        assert (sequence is None) == (waiting >= LIMITS.max_num_waiting)
        if sequence is not None:
            self.live[request_id] = sequence

    @rule(seconds=SECONDS, share=st.floats(0, 1), decode_seconds=SECONDS)
    def turn(self, seconds: float, share: float, decode_seconds: float) -> None:
        """One step of the engine, as its loop takes it."""
        output = self.scheduler.schedule(self.now)
        assert all(sequence.is_decoding for sequence in output.decode)
        assert len({sequence.request_id for sequence in output.decode}) == len(output.decode)
        if output.decode:
            self.scheduler.observe_decode(decode_seconds)
        if output.prefill is not None:
            self.prefill(output.prefill, bool(output.decode), share, seconds)
        elif not output.decode:
            assert not self.live, "there is work, and the scheduler finds none"
        self.now += seconds

    def prefill(self, sequence: Sequence, decoding: bool, share: float, seconds: float) -> None:
        if sequence.status is SequenceStatus.WAITING:
            cached = int(share * (sequence.num_prompt_tokens - 1))
            self.scheduler.start(sequence, cached)
            self.computed[sequence.request_id] = cached
        count = self.scheduler.chunk(sequence, decoding)
        assert 1 <= count <= LIMITS.max_chunk
        before = sequence.num_computed_tokens
        sequence.num_computed_tokens += count
        self.computed[sequence.request_id] += count
        assert sequence.num_computed_tokens <= sequence.num_prompt_tokens
        if sequence.is_prefilling:
            assert (before + count) % LIMITS.min_chunk == 0, "a chunk ends off the grid"
        self.scheduler.observe_prefill(count, seconds)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A request ends or is cancelled, wherever it stands."""
        request_id = data.draw(st.sampled_from(sorted(self.live)))
        assert self.scheduler.remove(request_id) is self.live.pop(request_id)
        self.computed.pop(request_id, None)
        assert self.scheduler.remove(request_id) is None

    @invariant()
    def the_books_agree(self) -> None:
        waiting, running = self.scheduler.waiting, self.scheduler.running
        assert {sequence.request_id for sequence in (*waiting, *running)} == set(self.live)
        assert len(running) <= LIMITS.max_num_seqs
        assert len(waiting) <= LIMITS.max_num_waiting
        assert {sequence.request_id: sequence.num_computed_tokens for sequence in running} == self.computed

    def teardown(self) -> None:
        """What is left comes to its end: nothing starves."""
        for _ in range(5000):
            if not self.live:
                break
            output = self.scheduler.schedule(self.now)
            assert output.decode or output.prefill is not None, "live requests, and nothing to do"
            for sequence in output.decode:
                self.scheduler.remove(sequence.request_id)
                del self.live[sequence.request_id], self.computed[sequence.request_id]
            if output.prefill is not None:
                self.prefill(output.prefill, bool(output.decode), 0.0, 0.01)
            self.now += 0.01
        assert not self.live
        assert not self.scheduler.waiting
        assert not self.scheduler.running


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_any_order_of_events = SchedulerMachine.TestCase
