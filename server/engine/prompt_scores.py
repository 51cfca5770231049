"""What the tokens of a prompt were given."""

from __future__ import annotations

import mlx.core as mx

from .decode_layout import Forward
from .logprobs import token_logprobs
from .prompt_work import PromptWork
from .row import Row

_SCORED_TOKENS = 256
"""Computed at once: the logits of all of them are held."""


def score(model: Forward, row: Row, stop: int, work: PromptWork) -> mx.array:
    """Bring the row's caches up to `stop`, noting what each token of its prompt was given; the logits behind the last
    one, shape [1, vocabulary]. As in `PromptWork.finish`, the row has no caches where that is given up."""
    while True:
        end = min(stop, row.num_computed + _SCORED_TOKENS)
        logits = model(mx.array([row.token_ids[row.num_computed : end]]), cache=row.caches)[0]
        if not work.finish([row], end - row.num_computed):
            return logits[-1:]
        behind = row.token_ids[row.num_computed + 1 : end + 1]
        if behind:
            row.prompt_logprobs += token_logprobs(logits[: len(behind)], behind, row.request.logprobs or 0)
        row.num_computed = end
        if end == stop:
            return logits[-1:]
