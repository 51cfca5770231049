"""Which way of decoding several rows together a model gets: the best one that is right for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import mlx.core as mx
from msgspec.structs import replace

from ..cache.codec import LayerCache
from .decode_layout import DecodeLayout, Forward, PaddedLayout, SerialLayout, can_pad
from .messages import Batching
from .paged_attention import CudaPageAttention
from .paged_layout import PagedLayout
from .rewinding_layout import RewindingLayout, can_rewind
from .slot_layout import LARGE_ROW_TOKENS, SlotLayout, can_slot
from .taking_back import CANNOT_TAKE_BACK, can_take_back

logger = logging.getLogger(__name__)

_PROMPTS = ([1, 2, 3], [3, 1, 2, 2, 1, 3, 3, 1, 2])
"""Two rows of different lengths."""
_STEPS = 2
_TOLERANCE = {mx.float32: 1e-3}
_COARSE_TOLERANCE = 0.1
"""Of the logits' spread. Wrong masks or positions are off by about 1; half precision rounds to some 0.02."""
_NOISE_FACTOR, _MOST_NOISE = 3.0, 0.4
"""Where rounding sends a token to another expert it does more. A row alone shows how much, token by token."""

Result = TypeVar("Result")
Trial: TypeAlias = Generator[None, None, Result]
"""What finds something out in pieces, pausing after each."""


@dataclass(frozen=True, slots=True)
class LayoutChoice:
    """The layout to take, and `batching` with the reason it is not a better one."""

    layout: DecodeLayout
    batching: Batching


def choose_layout(model: Forward, make_cache: Callable[[], list[LayerCache]]) -> LayoutChoice:
    """The first layout whose rows, of different lengths, get the logits they get alone."""
    trial = try_layouts(model, make_cache)
    while True:
        try:
            next(trial)
        except StopIteration as done:
            return done.value


def try_layouts(
    model: Forward, make_cache: Callable[[], list[LayerCache]], large_row_tokens: int = LARGE_ROW_TOKENS
) -> Trial[LayoutChoice]:
    """`choose_layout` in pieces of a pass or a few. Rows of more than `large_row_tokens` leave little memory idle."""
    caches = make_cache()
    candidates: list[tuple[str, Callable[[Forward], DecodeLayout]]] = []
    if can_slot(caches):
        if mx.cuda.is_available() and mx.default_device().type == mx.gpu:
            candidates.append(("batched", lambda model: PagedLayout(model, CudaPageAttention(), large_row_tokens)))
        candidates.append(("batched", lambda model: SlotLayout(model, large_row_tokens)))
    if can_pad(caches):
        if can_rewind(caches):
            candidates.append(("padded", RewindingLayout))
        candidates.append(("padded", PaddedLayout))
    serial = Batching("serial") if can_take_back(caches) else Batching("serial", "", "none", CANNOT_TAKE_BACK)
    if not candidates:
        return LayoutChoice(SerialLayout(model), replace(serial, reason="its cache has no batch form"))
    expected = yield from _logits_alone(model, make_cache)
    reason = "" if candidates[0][0] == "batched" else "not all of its layers keep plain keys and values"
    undrafted = "what its layers keep cannot be taken back row by row"
    tolerance = _TOLERANCE.get(expected[0].dtype, _COARSE_TOLERANCE)
    for batching, layout in candidates:
        try:
            error = _distance(expected, (yield from _logits(layout(model), model, make_cache)))
        except Exception as failure:  # any model file may refuse in its own way; the next layout is tried
            error = f"{type(failure).__name__}: {failure}"
        else:
            if _COARSE_TOLERANCE <= tolerance < error <= _MOST_NOISE:
                noise = _distance(expected, (yield from _logits(SerialLayout(model), model, make_cache)))
                tolerance = max(tolerance, min(_NOISE_FACTOR * noise, _MOST_NOISE))
            if error <= tolerance:
                if layout is not PaddedLayout:
                    return LayoutChoice(layout(model), Batching(batching, reason))
                drafting = ("lone", undrafted) if can_take_back(caches) else ("none", CANNOT_TAKE_BACK)
                return LayoutChoice(layout(model), Batching(batching, reason, *drafting))
            error = f"rows decoded together differ from the same rows alone by {error:.2g} of their spread"
        logger.info("layout %s is not for this model: %s", batching, error)
        if layout is RewindingLayout:
            undrafted = error
        else:
            reason = error
    return LayoutChoice(SerialLayout(model), replace(serial, reason=reason))


def _logits_alone(model: Forward, make_cache: Callable[[], list[LayerCache]]) -> Trial[list[mx.array]]:
    """What `_logits` must give: each row alone, in one pass over its prompt and the tokens it keeps."""
    rows: list[mx.array] = []
    for row, prompt in enumerate(_PROMPTS):
        fed = [*(position + row for position in range(_STEPS + 1)), row]
        rows.append(model(mx.array([[*prompt, *fed]]), cache=make_cache())[0, -len(fed) :])
        mx.eval(rows)
        yield
    compared = [*range(_STEPS), _STEPS + 1]
    return [mx.stack([logits[position] for logits in rows]) for position in compared]


def _logits(layout: DecodeLayout, model: Forward, make_cache: Callable[[], list[LayerCache]]) -> Trial[list[mx.array]]:
    for prompt in _PROMPTS:
        caches = make_cache()
        model(mx.array([prompt]), cache=caches)
        layout.join(caches)
        yield
    steps: list[mx.array] = []
    for position in range(_STEPS):
        steps.append(layout.forward([[position], [position + 1]])[:, -1])
        layout.accept([1, 1])
        mx.eval(steps)
        yield
    # Of a draft of one token nothing is accepted, and both rows go on from where they then stand.
    mx.eval(layout.forward([[_STEPS, 0] if layout.may_draft(0) else [_STEPS], [_STEPS + 1]]))  # ranks need every pass
    layout.accept([1, 1])
    steps.append(layout.forward([[0], [1]])[:, -1])
    layout.accept([1, 1])
    mx.eval(steps)
    return steps


def _distance(expected: list[mx.array], found: list[mx.array]) -> float:
    """The largest difference as a share of the expected logits' spread."""
    wanted, got = mx.stack(expected).astype(mx.float32), mx.stack(found).astype(mx.float32)
    distance: Any = mx.max(mx.abs(wanted - got)) / (mx.max(wanted) - mx.min(wanted))
    return float(distance.item())
