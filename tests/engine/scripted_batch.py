"""A batch that plays given tokens instead of running a model. No MLX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from omlx.server.common_prefix import common_prefix
from omlx.server.engine.batch import BatchInfo, Logprobs, MemoryUse, PrefixReport
from omlx.server.engine.messages import Batching, DraftStats, Submit, TokenLogprob


class ScriptedBatch:
    """Answers the n-th opened request with `script[n]`, one token a step; later ones with the last answer.

    It keeps the prompts it has computed, so a later prompt finds its cached prefix as it would for real.
    `opened` and `released` hold the request ids in order, `chunks` what each `prefill` computed, and `together` which
    prompts were computed in one pass, where it says that it can.
    """

    def __init__(self, script: Sequence[Sequence[int]]) -> None:
        self._script = [list(answer) for answer in script]
        self._requests: dict[str, Submit] = {}
        self._answers: dict[str, list[int]] = {}
        self._positions: dict[str, int] = {}
        self._history: list[tuple[str, list[int]]] = []
        self._latest: dict[str, list[int]] = {}
        self._scored: set[str] = set()
        self.opened: list[str] = []
        self.released: list[str] = []
        self.closed = False
        self.chunks: list[tuple[str, int]] = []
        self.prefix_bounds: list[int] = []
        self.fetching: set[str] = set()
        self.num_rests = 0
        self.computes_together = False
        self.together: list[list[str]] = []
        self.go_on: Callable[[], bool] = lambda: True

    @property
    def info(self) -> BatchInfo:
        return BatchInfo(device="script", weight_bytes=0)

    @property
    def batching(self) -> Batching:
        return Batching("batched")

    def match(self, request: Submit) -> int:
        kept = [tokens for salt, tokens in self._history if salt == request.cache_salt]
        longest = max((common_prefix(tokens, request.token_ids) for tokens in kept), default=0)
        return min(longest, len(request.token_ids) - 1)

    def fetch(self, request: Submit) -> Iterator[bool]:
        while request.request_id in self.fetching:
            yield False

    def open(self, request: Submit) -> int:
        answer = self._script[min(len(self.opened), len(self._script) - 1)]
        self.opened.append(request.request_id)
        self._requests[request.request_id] = request
        self._answers[request.request_id] = list(answer)
        self._positions[request.request_id] = self.match(request)
        return self._positions[request.request_id]

    def prefix(self, request_id: str) -> PrefixReport:
        is_whole = self._positions[request_id] == len(self._requests[request_id].token_ids) - 1
        return PrefixReport(miss="" if is_whole else "the script says so", miss_token=self._positions[request_id])

    def listen(self, go_on: Callable[[], bool]) -> None:
        self.go_on = go_on

    def prefill(self, request_id: str, count: int) -> list[int]:
        self.chunks.append((request_id, count))
        self._positions[request_id] += count
        request = self._requests[request_id]
        self._history.append((request.cache_salt, request.token_ids[: self._positions[request_id]]))
        return self._next(request_id) if self._ready(request_id) else []

    @property
    def takes_prompts_together(self) -> bool:
        return self.computes_together

    def prefill_together(self, counts: Mapping[str, int]) -> dict[str, list[int]]:
        self.together.append(list(counts))
        return {request_id: self.prefill(request_id, count) for request_id, count in counts.items()}

    def decode(self) -> dict[str, list[int]]:
        return {request_id: self._next(request_id) for request_id in self._requests if self._ready(request_id)}

    def logprobs(self, request_id: str) -> Logprobs:
        """A token of id n is given -n / 1000."""
        request = self._requests[request_id]
        prompt: list[TokenLogprob] = []
        if request.prompt_logprobs and request_id not in self._scored:
            head, *tail = request.token_ids
            prompt = [TokenLogprob(head, None), *map(_scored, tail)]
        self._scored.add(request_id)
        return Logprobs([_scored(token_id) for token_id in self._latest[request_id]], prompt)

    def release(self, request_id: str) -> None:
        if self._requests.pop(request_id, None) is not None:
            self.released.append(request_id)

    @property
    def drafts(self) -> list[DraftStats]:
        return []

    def bound_prefixes(self, num_bytes: int) -> None:
        self.prefix_bounds.append(num_bytes)

    def memory(self) -> MemoryUse:
        return MemoryUse()

    def idle(self) -> bool:
        return False

    def rest(self) -> None:
        self.num_rests += 1

    def check(self) -> None:
        assert not self._requests

    def close(self) -> None:
        self.closed = True

    def _ready(self, request_id: str) -> bool:
        return self._positions[request_id] == len(self._requests[request_id].token_ids)

    def _next(self, request_id: str) -> list[int]:
        """The script's next token; past its end the last one again, as a model would never just stop."""
        answer = self._answers[request_id]
        self._latest[request_id] = [answer.pop(0) if len(answer) > 1 else answer[0]]
        return self._latest[request_id]


def _scored(token_id: int) -> TokenLogprob:
    return TokenLogprob(token_id, -token_id / 1000, [(token_id, -token_id / 1000)])
