"""Who computes what in the next turn. Pure decisions: no clock, no model, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ..cache.blocks import BLOCK_TOKENS
from .memory_room import MemoryRoom
from .messages import Submit
from .sequence import Sequence, SequenceStatus, checkpoints

_SMOOTHING = 0.3
"""Weight of the newest measurement in the running means."""
_DOUBT = 0.1
"""Likewise of a piece of prompt that took longer than those before."""

_AGEING = 0.25
"""How much work a second's wait stands for: a prompt that has waited four times as long as it takes is overtaken by
no shorter one."""
_PASS_TOKENS = 64
"""A prompt's share of a common pass costs less than a pass of its own as long as it is padded by no more than this."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Sizes in tokens, times in seconds.

    Prefill chunks end on absolute multiples of their own size, a power of two. While nothing decodes a
    chunk is at least `grid` and takes about `idle_seconds`; beside decoding rows it may be as small as
    `min_chunk`, and delays them by `decode_gap_seconds` or `decode_gap_steps` steps, whichever is longer.
    Where it is not the smallest, none takes more than about `max_chunk_seconds`.
    """

    max_num_seqs: int = 64
    max_num_waiting: int = 256
    grid: int = 256
    min_chunk: int = 32
    max_chunk: int = 2048
    max_together: int = 1024
    idle_seconds: float = 1.0
    decode_gap_seconds: float = 0.2
    decode_gap_steps: float = 4.0
    max_chunk_seconds: float = inf


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """One turn: a decode step of `decode` (all or nothing), and one chunk of `prefill`."""

    decode: tuple[Sequence, ...]
    prefill: Sequence | None


class Scheduler:
    """Holds every sequence that is not finished, in order of arrival. `room` says which of them memory holds."""

    def __init__(self, limits: SchedulerLimits, room: MemoryRoom | None = None) -> None:
        self._limits = limits
        self.room = room or MemoryRoom()
        self._sequences: dict[str, Sequence] = {}
        self._decode_seconds = 0.0
        self._prefill_seconds_per_token = 0.0

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._sequences

    @property
    def waiting(self) -> list[Sequence]:
        return [sequence for sequence in self._sequences.values() if sequence.status is SequenceStatus.WAITING]

    @property
    def running(self) -> list[Sequence]:
        return [sequence for sequence in self._sequences.values() if sequence.status is SequenceStatus.RUNNING]

    def add(self, request: Submit, num_cached_tokens: int, now: float) -> Sequence | None:
        """Accept the request into the waiting queue; `None` when the queue is full."""
        assert request.request_id not in self._sequences
        if len(self.waiting) >= self._limits.max_num_waiting:
            return None
        sequence = Sequence(request, now, num_cached_tokens=num_cached_tokens)
        self._sequences[request.request_id] = sequence
        return sequence

    def remove(self, request_id: str) -> Sequence | None:
        """Forget a sequence, finished or cancelled; `None` for an unknown id."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None:
            sequence.status = SequenceStatus.FINISHED
        return sequence

    def schedule(self, now: float) -> SchedulerOutput:
        """The next turn. A waiting sequence chosen for prefill must be opened, then `start`ed."""
        running = self.running
        candidates = [sequence for sequence in running if sequence.is_prefilling]
        if len(running) < self._limits.max_num_seqs:
            decodes = any(sequence.is_decoding for sequence in running)
            waiting = [
                sequence
                for sequence in self.waiting
                if not self._worth_waiting(sequence, candidates) and (sequence.is_fetched or not decodes)
            ]
            first = min(waiting, key=lambda sequence: self._rank(sequence, now), default=None)
            # Where there is no room for the first, none overtakes it: it would wait for ever.
            if first is not None and self.room.fits(first, running):
                candidates.append(first)
        return SchedulerOutput(
            decode=tuple(sequence for sequence in running if sequence.is_decoding),
            prefill=min(candidates, key=lambda sequence: self._rank(sequence, now), default=None),
        )

    def fetching(self, now: float) -> list[Sequence]:
        """For whom to bring prefixes up from the disk beside rows that decode, in the order of their turns: for nobody
        while there is no row for them, since memory may not hold what all want."""
        if len(self.running) >= self._limits.max_num_seqs:
            return []
        fetching = [sequence for sequence in self.waiting if not sequence.is_fetched]
        return sorted(fetching, key=lambda sequence: self._rank(sequence, now))

    @property
    def fetch_seconds(self) -> float:
        """How long that may take in a turn, which may compute a piece of a prompt too."""
        return self._decode_gap / 2

    def another(self, spent: float, now: float) -> Sequence | None:
        """Whose prompt to go on with in a turn that has computed prompts for `spent` seconds, beside rows that decode.

        Each piece would cost a step of them otherwise. That is much for a short prompt; for a piece of a long one, as
        large as pieces get, only where a step takes a good part of what it does.
        """
        plan = self.schedule(now)
        sequence = plan.prefill
        if sequence is None or not plan.decode:
            return None
        is_short = not sequence.is_prefilling and sequence.num_remaining_tokens <= self._limits.grid
        patience = self._decode_gap if is_short else self._limits.decode_gap_steps * self._decode_seconds
        count = min(sequence.num_remaining_tokens, self._limits.max_chunk)
        seconds = count * max(self._prefill_seconds_per_token, sequence.seconds_per_token)
        return sequence if spent + seconds <= patience else None

    def company(self, first: Sequence, decoding: bool, now: float, spent: float = 0.0) -> list[Sequence]:
        """The waiting prompts to compute in one pass with this one, where both are short: none of them is to be opened
        before a longer one that has waited for its turn, and none could do with what another is about to compute.
        The turn has computed prompts for `spent` seconds already."""
        group: list[Sequence] = []
        if not _is_short(first):
            return group
        budget = self._budget(decoding, spent)
        running, members = self.running, [first]
        for sequence in sorted(self.waiting, key=lambda sequence: self._rank(sequence, now)):
            if not sequence.is_fetched or self._repeats(sequence, members):
                continue
            lengths = [each.num_remaining_tokens for each in [*members, sequence]]
            num_tokens = len(lengths) * max(lengths)
            if (
                not _is_short(sequence)
                or sequence.request.background != first.request.background
                or len(running) + len(group) >= self._limits.max_num_seqs
                or num_tokens - sum(lengths) > _PASS_TOKENS * len(members)
                or num_tokens > self._limits.max_together
                or num_tokens * self._prefill_seconds_per_token > budget
                or not self.room.fits(sequence, [*running, *group])
            ):
                break
            group.append(sequence)
            members.append(sequence)
        return group

    def _repeats(self, sequence: Sequence, members: list[Sequence]) -> bool:
        """Whether one of the members computes much of what is left of this prompt: it will find that cached."""
        most = max(self._limits.min_chunk, sequence.num_remaining_tokens // 2)
        return any(sequence.num_shared_tokens(other) - sequence.num_cached_tokens > most for other in members)

    @property
    def _decode_gap(self) -> float:
        """How long prompts may keep decoding rows waiting."""
        return max(self._limits.decode_gap_seconds, self._limits.decode_gap_steps * self._decode_seconds)

    def _budget(self, decoding: bool, spent: float = 0.0) -> float:
        """What a piece of prompt may take, where it is not the smallest, in a turn that has spent so much already."""
        turn = self._decode_gap if decoding else self._limits.idle_seconds
        return min(turn - spent, self._limits.max_chunk_seconds)

    def start(self, sequence: Sequence, num_cached_tokens: int) -> None:
        """The sequence was opened in the batch, on so many reused tokens."""
        sequence.status = SequenceStatus.RUNNING
        sequence.num_cached_tokens = sequence.num_computed_tokens = num_cached_tokens

    def put_back(self, sequence: Sequence, num_cached_tokens: int) -> None:
        """The sequence has lost its row to a failure that may be another's: it waits again, for a row of its own."""
        sequence.status, sequence.goes_alone = SequenceStatus.WAITING, True
        sequence.num_cached_tokens, sequence.num_computed_tokens = num_cached_tokens, 0

    def chunk(self, sequence: Sequence, decoding: bool, checkpoint_tokens: int = 0) -> int:
        """How many prompt tokens of the sequence to compute next, at least 1.

        With `checkpoint_tokens` no chunk passes one of the prompt's `checkpoints`.
        """
        limits = self._limits
        smallest = limits.min_chunk if decoding else limits.grid
        budget = self._budget(decoding)
        size = smallest
        if self._prefill_seconds_per_token > 0:
            largest = min(limits.max_chunk, sequence.max_piece if decoding else limits.max_chunk)
            while size * 2 <= largest and size * 2 * self._prefill_seconds_per_token <= budget:
                size *= 2
        sequence.piece_size = size
        done = sequence.num_computed_tokens
        ends = [(done // size + 1) * size, sequence.num_prompt_tokens]
        if checkpoint_tokens:
            ends += [end for end in checkpoints(sequence.request, checkpoint_tokens) if end > done]
        return min(ends) - done

    def observe_decode(self, seconds: float) -> None:
        self._decode_seconds = _mean(self._decode_seconds, seconds)

    def observe_piece(self, sequence: Sequence, count: int, seconds: float, decoding: bool) -> None:
        """A piece of the sequence's prompt took so long. Where decoding rows waited for it longer than they may, its
        next pieces are half as long, for they take longer the more of the prompt comes before them; until one takes so
        little that twice as long a one will do."""
        self.observe_prefill(count, seconds)
        sequence.seconds_per_token = seconds / count
        budget = self._budget(decoding)
        if decoding and seconds > budget and 2 * count > sequence.piece_size:
            sequence.max_piece = max(self._limits.min_chunk, sequence.piece_size // 2)
        elif count == sequence.piece_size == sequence.max_piece and 2.5 * seconds < budget:
            sequence.max_piece *= 2

    def observe_prefill(self, count: int, seconds: float) -> None:
        """Good news is believed at once, bad news slowly: a GPU prepares itself for every new size of a piece, which
        takes longer than the piece itself and is not asked for again. What took longer than any piece may is believed
        too: the next one is smaller, and soon brings good news where there are any."""
        per_token, known = seconds / count, self._prefill_seconds_per_token
        if 0 < known < per_token:
            if count < self._limits.grid:
                return  # a small piece takes longer a token; to believe it would keep all pieces small
            if seconds <= self._limits.max_chunk_seconds:
                per_token = known + _DOUBT * (per_token - known)
        self._prefill_seconds_per_token = per_token

    def waiting_for(self, prefilling: Sequence) -> list[tuple[Sequence, int]]:
        """The sequences that wait for what this one computes, and how many tokens of each prompt it has so far."""
        awaited = [(sequence, self._num_awaited_tokens(sequence, prefilling)) for sequence in self.waiting]
        return [(sequence, min(count, prefilling.num_computed_tokens)) for sequence, count in awaited if count]

    def _rank(self, sequence: Sequence, now: float) -> tuple[bool, float]:
        """Least first: shortest remaining prompt, as if waiting had done some of the work."""
        work = sequence.num_remaining_tokens * (self._prefill_seconds_per_token or 1e-3)
        return sequence.request.background, work - _AGEING * (now - sequence.arrived)

    def _worth_waiting(self, sequence: Sequence, prefilling: list[Sequence]) -> bool:
        """Whether a running prefill is about to compute a good piece of this sequence's prompt."""
        return any(other.num_computed_tokens < self._num_awaited_tokens(sequence, other) for other in prefilling)

    def _num_awaited_tokens(self, sequence: Sequence, other: Sequence) -> int:
        """How many leading tokens both share, where these are many more than the cache has; else 0."""
        shared = sequence.num_shared_tokens(other)
        return shared if shared - sequence.num_cached_tokens >= self._limits.grid else 0


def _is_short(sequence: Sequence) -> bool:
    """Whether less than a block is left of the prompt, and no end of a block in it: whole blocks, which later prompts
    rest on, are always computed alone, so that no company shows in them."""
    start = sequence.num_prompt_tokens - sequence.num_remaining_tokens
    return not sequence.goes_alone and start // BLOCK_TOKENS == sequence.num_prompt_tokens // BLOCK_TOKENS


def _mean(mean: float, value: float) -> float:
    return value if mean == 0 else mean + _SMOOTHING * (value - mean)
