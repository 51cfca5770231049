"""Log probabilities of tokens, computed only for the rows that ask.

They are the model's own: of its bare logits, before temperature, penalties and grammars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from .messages import TokenLogprob


def token_logprobs(logits: mx.array, token_ids: Sequence[int], num_top: int) -> list[TokenLogprob]:
    """What each token was given, with the `num_top` likeliest of its place. `logits` has shape [tokens, vocabulary]."""
    logits = logits.astype(mx.float32)
    scores = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen: Any = mx.take_along_axis(scores, mx.array(list(token_ids))[:, None], axis=-1)[:, 0].tolist()
    num_top = min(num_top, logits.shape[-1])
    if not num_top:
        return [TokenLogprob(token_id, score) for token_id, score in zip(token_ids, chosen, strict=True)]
    best = mx.argpartition(-scores, kth=num_top - 1, axis=-1)[:, :num_top]
    top_ids: Any = best.tolist()
    top_scores: Any = mx.take_along_axis(scores, best, axis=-1).tolist()
    found: list[TokenLogprob] = []
    for token_id, score, ids, values in zip(token_ids, chosen, top_ids, top_scores, strict=True):
        top = sorted(zip(ids, values, strict=True), key=lambda pair: -pair[1])
        found.append(TokenLogprob(token_id, score, top))
    return found
