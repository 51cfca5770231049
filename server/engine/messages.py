"""What passes between the API process and an engine process.

Both directions carry length-prefixed msgpack over one local socket (`wire`). The API process sends
commands as they come; the engine answers with one `StepOutput` a step, whatever the number of rows.
"""

from __future__ import annotations

import msgspec

from ..events import FinishReason
from ..requests import SamplingParams


class ThinkingBudget(msgspec.Struct, frozen=True, array_like=True):
    """After `num_tokens` tokens between the two marks the closing one is written for the model. `is_open`: the prompt
    ends inside its thinking. Neither mark is empty."""

    num_tokens: int
    start_ids: list[int]
    end_ids: list[int]
    is_open: bool = False


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Generate from `token_ids`, at most `max_tokens` (both at least 1).

    `boundaries` are ascending positions in the prompt where a checkpoint of the cache pays (end of system
    and tools, before the last user message); `cache_salt` parts what is remembered for different keys.
    `background` requests (titles) yield to the others. `grammar`, where there is one, is what the answer is held
    to, in llguidance's own form. `logprobs` asks for the log probabilities of the answer's tokens, with so many of
    the likeliest beside each; `prompt_logprobs` for the prompt's too, which is then computed from its beginning.
    `without_drafters` names the drafters ("ngram", "mtp") not to be asked.
    """

    request_id: str
    token_ids: list[int]
    max_tokens: int
    stop_token_ids: list[int] = []
    sampling: SamplingParams = SamplingParams()
    boundaries: list[int] = []
    cache_salt: str = ""
    background: bool = False
    grammar: str = ""
    logprobs: int | None = None
    prompt_logprobs: bool = False
    without_drafters: list[str] = []
    thinking: ThinkingBudget | None = None


class EncoderInput(msgspec.Struct, frozen=True, array_like=True):
    """One text, or a pair of them: `type_ids` say which of the two each token is of, where the model asks."""

    token_ids: list[int]
    type_ids: list[int] = []


class Encode(msgspec.Struct, frozen=True, tag="encode"):
    """Make a vector of each input, or a score for a reranker. Answered by one update with `vectors`."""

    request_id: str
    inputs: list[EncoderInput]


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Forget the request; no further update of it is sent. Unknown ids are ignored."""

    request_id: str


class MemoryLimit(msgspec.Struct, frozen=True, tag="limit"):
    """What the model may take of the memory from now on, its weights included."""

    num_bytes: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the process after the current step."""


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Rank 0 of a group runs, whatever its step is at, and so does its server. Sent twice a second both ways, the
    engine's by a thread of its own."""


Command = Submit | Encode | Cancel | MemoryLimit | Shutdown | Alive


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """The engine runs and is not ready yet; it has got further since it last said so."""


class EngineReady(msgspec.Struct, frozen=True, tag="ready"):
    """The weights are loaded. Sizes in bytes; `device` is MLX's device in words."""

    device: str
    weight_bytes: int
    load_seconds: float


class Batching(msgspec.Struct, frozen=True, tag="batching"):
    """How rows are decoded together: "batched", "padded" to the longest, "serial", or "undecided" until the model
    has been tried. `reason` says why, where it is not the best way. `drafting` is which rows take drafts: "all", "lone"
    ones, "none", or "undecided", and `drafting_reason` why not all. Sent when it is known and when it changes."""

    name: str
    reason: str = ""
    drafting: str = "all"
    drafting_reason: str = ""


class EngineFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The engine cannot go on: the model did not load, or the step loop met an error. Then it exits.

    `may_pass`: it was not for want of this process, and another one may be ready.
    """

    message: str
    may_pass: bool = False


class EngineStalled(msgspec.Struct, frozen=True, tag="stalled"):
    """A group's step has got no further for as long as streams may wait; `message` names the ranks that hold it up.
    A `StepOutput` after it says that the group goes on; else it ends."""

    message: str


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token with its natural log probability, None for a prompt's first one; `top` holds the likeliest tokens of
    its place, best first."""

    token_id: int
    logprob: float | None
    top: list[tuple[int, float]] = []


class SequenceUpdate(msgspec.Struct, frozen=True, array_like=True):
    """What a step did for one request.

    The first update of a request says that it was admitted. `num_computed_tokens` counts prompt tokens in
    the cache, the `num_cached_tokens` reused ones included. `token_ids` are the tokens this step
    generated, the stop token left out. `error` ends the request; it is written
    `CODE: MESSAGE`, the code that of a class in `errors`. `logprobs` are those of `token_ids` where they were asked
    for, `prompt_logprobs` come with the first token: those of the prompt's tokens. `vectors` are
    those of an `Encode`, in its order: float32, little-endian.

    `num_awaited_tokens`: the request waits for another one to compute what both prompts begin with, and so much of it
    is there. Once its own prompt is being computed, `queue_seconds` is how long it waited for that, `num_disk_tokens`
    how many of the cached ones were read from the disk, `miss` why no more were cached, and `miss_token` the first
    token that differs from all that is.
    """

    request_id: str
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    token_ids: list[int] = []
    finish_reason: FinishReason | None = None
    error: str = ""
    logprobs: list[TokenLogprob] = []
    prompt_logprobs: list[TokenLogprob] = []
    vectors: list[bytes] = []
    queue_seconds: float = 0.0
    num_disk_tokens: int = 0
    miss: str = ""
    miss_token: int = 0
    num_awaited_tokens: int = 0

    def joined_to(self, earlier: SequenceUpdate) -> SequenceUpdate:
        """Both in one. What `earlier` held is given over: a reader who is far behind must not make it slower."""
        earlier.token_ids.extend(self.token_ids)
        earlier.logprobs.extend(self.logprobs)
        return msgspec.structs.replace(
            self,
            token_ids=earlier.token_ids,
            logprobs=earlier.logprobs,
            prompt_logprobs=earlier.prompt_logprobs or self.prompt_logprobs,
            queue_seconds=self.queue_seconds or earlier.queue_seconds,
            num_disk_tokens=self.num_disk_tokens or earlier.num_disk_tokens,
            miss=self.miss or earlier.miss,
            miss_token=self.miss_token or earlier.miss_token,
        )


class DraftStats(msgspec.Struct, frozen=True, array_like=True):
    """What one drafter has brought since the engine started: steps of rows that had its draft, the tokens drafted,
    those that were right, and the speed of those steps against ones without."""

    drafter: str
    num_drafts: int
    num_tokens: int
    num_accepted: int
    speedup: float


class RankMemory(msgspec.Struct, frozen=True, array_like=True):
    """Bytes one rank of a group holds: its prefix cache's, and all."""

    cache_bytes: int = 0
    memory_bytes: int = 0


class EngineStats(msgspec.Struct, frozen=True, array_like=True):
    """The engine's state after a step; `cache_bytes` is the prefix cache's share of memory. Of a group, these are
    rank 0's; `ranks` has every rank's, in order.

    `waiting_seconds` is how long the first in the queue has been there. `cache_trouble` says why no prefix is kept
    on disk for now, where one should be; so many blocks there were found damaged, and thrown away.
    `max_cache_bytes` bounds `cache_bytes`; so many blocks had to leave the memory for others, and so many bytes were
    written to the disk. `claimed_bytes` is what the weights and the requests take, or are expected to.
    """

    num_running: int = 0
    num_waiting: int = 0
    cache_bytes: int = 0
    memory_bytes: int = 0
    waiting_seconds: float = 0.0
    cache_trouble: str = ""
    num_damaged_blocks: int = 0
    drafts: list[DraftStats] = []
    ranks: list[RankMemory] = []
    max_cache_bytes: int = 0
    num_evicted_blocks: int = 0
    disk_written_bytes: int = 0
    claimed_bytes: int = 0


class StepOutput(msgspec.Struct, frozen=True, tag="step"):
    """What a step did. An idle engine sends one without updates from time to time: it lives."""

    updates: list[SequenceUpdate]
    stats: EngineStats = EngineStats()


EngineMessage = Loading | EngineReady | Batching | EngineFailed | EngineStalled | StepOutput | Alive
