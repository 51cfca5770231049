"""Once no request is left, what is still held for one is seen, wherever that is."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.engine.decode_layout import DecodeLayout, PaddedLayout, SerialLayout
from omlx.server.engine.deferred_layout import DeferredLayout
from omlx.server.engine.model_drafter import ModelDrafter
from omlx.server.engine.mtp_drafter import MtpDrafter
from omlx.server.engine.ngram_drafter import NgramDrafter
from omlx.server.engine.paged_layout import PagedLayout
from omlx.server.engine.rewinding_layout import RewindingLayout
from omlx.server.engine.slot_layout import SlotGroup, SlotLayout
from omlx.server.engine.speculation import Drafter, Speculation

from .driving import drain, make_engine
from .reference_pages import ReferencePageAttention
from .tiny_model import make_batch, prompt_of, submit, tiny_llama

NOTHING: Any = None
LAYOUTS: dict[str, Callable[[nn.Module], Any]] = {
    "serial": SerialLayout,
    "padded": PaddedLayout,
    "rewinding": RewindingLayout,
    "slots": lambda model: SlotLayout(model, large_tokens=40),
    "pages": lambda model: PagedLayout(model, ReferencePageAttention(), spare_tokens=1),
    "deferred": lambda model: DeferredLayout(model, lambda: make_prompt_cache(model)),
}
LEFT: list[tuple[str, Callable[[Any], object]]] = [
    ("serial", lambda layout: layout._rows.append([])),
    ("serial", lambda layout: layout._before.append([1])),
    ("padded", lambda layout: layout._batch.append(1)),
    ("padded", lambda layout: layout._lone._rows.append([])),
    ("rewinding", lambda layout: layout._owed.append([])),
    ("rewinding", lambda layout: layout._batch.append(1)),
    ("rewinding", lambda layout: layout._before.append([1])),
    ("slots", lambda layout: layout._groups.append(SlotGroup(256))),
    ("pages", lambda layout: layout._layers.append(1)),
    ("pages", lambda layout: layout._free.append(0)),
    ("deferred", lambda layout: setattr(layout, "_num_rows", 1)),
    ("deferred", lambda layout: layout._layout._rows.append([])),
]
BROKEN: list[tuple[str, Callable[[Any], object]]] = [
    ("slots", lambda layout: layout._groups[0].lengths.append(3)),
    ("slots", lambda layout: layout._groups.append(SlotGroup(256))),
    ("slots", lambda layout: setattr(layout._rows[0], "slot", layout._rows[1].slot)),
    ("slots", lambda layout: layout._groups[0].lengths.__setitem__(0, 257)),
    ("pages", lambda layout: layout._free.pop()),
    ("pages", lambda layout: layout._free.append(layout._rows[0].pages[0])),
    ("pages", lambda layout: layout._rows[0].pages.__setitem__(0, layout._rows[1].pages[0])),
    ("pages", lambda layout: setattr(layout._rows[0], "length", 1000)),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_llama()


def join(model: nn.Module, layout: DecodeLayout, length: int) -> None:
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([prompt_of(length)]), cache=caches))
    layout.join(caches)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_books_of_rows_that_come_and_go_always_agree(model: nn.Module, kind: str) -> None:
    layout, chance, num_rows = LAYOUTS[kind](model), random.Random(3), 0
    for _ in range(40):
        if num_rows and chance.random() < 0.4:
            layout.leave(chance.randrange(num_rows))
            num_rows -= 1
        else:
            join(model, layout, chance.choice([3, 30, 60, 254]))
            num_rows += 1
        layout.check(num_rows)
        if num_rows:
            mx.eval(layout.forward([[chance.randrange(9)] for _ in range(num_rows)]))
            layout.accept([1] * num_rows)
            layout.check(num_rows)
    while num_rows:
        layout.leave(0)
        num_rows -= 1
    layout.check(0)


@pytest.mark.parametrize(("kind", "leave_behind"), LEFT)
def test_what_a_row_leaves_in_a_layout_is_seen(
    model: nn.Module, kind: str, leave_behind: Callable[[Any], object]
) -> None:
    layout = LAYOUTS[kind](model)
    batch = make_batch(model, layout)
    engine = make_engine(batch)
    engine.submit(submit("a", prompt_of(20), 4))
    engine.submit(submit("b", prompt_of(70, 2), 4))
    drain(engine)
    batch.check()
    leave_behind(layout)
    with pytest.raises(AssertionError):
        batch.check()


@pytest.mark.parametrize(("kind", "disturb"), BROKEN)
def test_a_place_that_is_lost_or_has_two_rows_is_seen(
    model: nn.Module, kind: str, disturb: Callable[[Any], object]
) -> None:
    layout = LAYOUTS[kind](model)
    for _ in range(2):
        join(model, layout, 30)
    layout.check(2)
    with pytest.raises(AssertionError):
        layout.check(1)
    disturb(layout)
    with pytest.raises(AssertionError):
        layout.check(2)


@pytest.mark.parametrize(
    "make_drafter",
    [NgramDrafter, lambda: ModelDrafter(NOTHING, list), lambda: MtpDrafter(NOTHING)],
    ids=["ngram", "model", "mtp"],
)
def test_what_a_row_leaves_with_a_drafter_is_seen(make_drafter: Callable[[], Drafter]) -> None:
    drafter = make_drafter()
    speculation = Speculation([drafter])
    speculation.join("a", [1, 2, 3])
    with pytest.raises(AssertionError):
        speculation.check()
    speculation.leave("a")
    speculation.check()
    drafter.join("b", [1, 2, 3])
    with pytest.raises(AssertionError, match="'b'"):
        speculation.check()


def test_a_batch_asks_its_drafters(model: nn.Module) -> None:
    drafter = NgramDrafter()
    batch = make_batch(model, drafters=[drafter])
    batch.check()
    drafter.join("gone", [1, 2, 3])
    with pytest.raises(AssertionError, match="gone"):
        batch.check()
