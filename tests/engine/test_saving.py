"""What a busy engine keeps on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.pace import Pace
from omlx.server.engine.scheduler import SchedulerLimits

from .driving import make_engine
from .tiny_model import make_batch, prompt_of, submit, tiny_llama


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def blocks_in(folder: Path) -> int:
    return len(list(folder.rglob("*.safetensors")))


def never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: MlxBatch) -> bool:
        raise AssertionError("it is not idle")

    monkeypatch.setattr(MlxBatch, "idle", refuse)


@pytest.mark.parametrize("runs_ahead", [True, False])
def test_an_engine_that_always_decodes_saves_what_it_computed(
    runs_ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    never_idle(monkeypatch)
    batch = make_batch(tiny_llama(), disk=tmp_path, runs_ahead=runs_ahead, drafters=[])
    engine = make_engine(batch)
    engine.submit(submit("a", prompt_of(800), 1000))
    while blocks_in(tmp_path) < 4:  # the prompt's whole blocks, and its end
        engine.step()
        assert engine.has_work
    batch.close()


def test_an_engine_that_always_computes_prompts_saves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    never_idle(monkeypatch)
    batch = make_batch(tiny_llama(), disk=tmp_path)
    engine = make_engine(batch, SchedulerLimits(max_chunk=256))
    for number in range(30):
        engine.submit(submit(f"{number}", prompt_of(600, number), 1))
    while blocks_in(tmp_path) < 2:
        engine.step()
        assert engine.has_work
    batch.close()


def test_pieces_are_half_a_second_apart_and_take_a_fiftieth_of_the_time():
    clock, took, done = Clock(), [0.0], list[float]()

    def piece() -> None:
        done.append(clock.now)
        clock.now += took[0]

    pace = Pace(piece, clock)
    while clock.now < 2:
        pace.offer()
        clock.now += 0.125
    assert done == [0.0, 0.5, 1.0, 1.5]
    took[0] = 0.25
    while clock.now < 40:
        pace.offer()
        clock.now += 0.125
    assert done[4:] == [2.0, 14.5, 27.0, 39.5]
