"""One request in the batch: what it has written, and what is needed to go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import mlx.core as mx

from ..cache.codec import LayerCache
from ..errors import InvalidRequest
from .batch import NOT_A_NUMBER, ROW_FAILED, PrefixReport
from .logprobs import token_logprobs
from .messages import Submit, TokenLogprob
from .sampling import RowSampler

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Row:
    """`token_ids` are the prompt and every token generated so far; the caches hold the first
    `num_computed` of them. While the row decodes, the layout holds its caches and `caches` is empty."""

    request: Submit
    token_ids: list[int]
    num_computed: int
    sampler: RowSampler
    caches: list[LayerCache]
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of the last step's tokens."""
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    prefix: PrefixReport = field(default_factory=PrefixReport)

    @property
    def key(self) -> str:
        return self.request.request_id

    def append(self, token_ids: list[int]) -> None:
        self.token_ids += token_ids
        for token_id in token_ids:
            if token_id != NOT_A_NUMBER:
                self.sampler.observe(token_id)

    def feed(self, guess: list[int]) -> list[int]:
        """What the next step is fed: the row's last token, and a guess at those behind it, made here or on another
        rank."""
        if self.sampler.grammar is not None:
            self.sampler.grammar.feed(guess)
        return [self.token_ids[-1], *guess]

    def note(self, logits: mx.array, token_ids: list[int]) -> None:
        """Keep what the new tokens were given, where the request wants to know. Shape [tokens, vocabulary]."""
        if self.request.logprobs is not None:
            with self.sampler.contained():
                self.logprobs = token_logprobs(logits, token_ids, self.request.logprobs)

    def take(self, draft: list[int], chosen: list[int]) -> int:
        """Go on with the choices up to the first that the draft had wrong; their number.

        A choice drawn at random is an ordinary draw whether or not the draft had it, so the distribution
        is the model's own. Draws behind the last one taken never happened.
        """
        count = 1
        stops = self.request.stop_token_ids
        while count <= len(draft) and chosen[count - 1] == draft[count - 1] and chosen[count - 1] not in stops:
            count += 1
        self.sampler.take_back(len(chosen) - count)
        self.append(chosen[:count])
        self.num_computed += count
        return count

    def news(self, count: int) -> list[int]:
        """The last `count` tokens, and what is to be said of the row's end."""
        token_ids, mark = self.token_ids[-count:], self.sampler.mark
        if mark == ROW_FAILED:
            failure = self.sampler.failure
            logger.error("request %s: choosing its tokens failed; the others go on", self.key, exc_info=failure)
        return token_ids if mark is None else [*token_ids, mark]

    @property
    def is_spoilt(self) -> bool:
        """Whether its caches may hold what is no number, so that nobody should go on from them."""
        return self.token_ids[-1] == NOT_A_NUMBER

    @property
    def is_free(self) -> bool:
        """Whether its next token can be chosen without having seen the one before, or its own logits."""
        sampler = self.sampler
        return (
            sampler.num_free > 0
            and sampler.grammar is None
            and sampler.penalties is None
            and self.request.logprobs is None
        )


def check_tokens(request: Submit, vocabulary: int) -> None:
    """Raises `InvalidRequest` for a token that a vocabulary of this size does not have."""
    for position, token_id in enumerate(request.token_ids):
        if not 0 <= token_id < vocabulary:
            raise InvalidRequest(f"token {token_id} at position {position} is outside the vocabulary of {vocabulary}")
    for token_id, _ in request.sampling.logit_bias or ():
        if not 0 <= token_id < vocabulary:
            raise InvalidRequest(
                f"logit_bias names token {token_id}, which is outside the vocabulary of {vocabulary}", "logit_bias"
            )
