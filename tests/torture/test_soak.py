"""What a soak's samples are judged by."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from math import inf

import pytest

from . import __main__ as torture
from . import soak

_PLACES = 24
"""Of samples, in the second half of half an hour."""


def soaked(sizes: list[int], descriptors: list[int] | None = None) -> soak.Soak:
    """Of an engine that had so many bytes, and so many descriptors open, every 37 seconds."""
    opened = descriptors or [4] * len(sizes)
    samples = [(37.0 * place, [0, size], [9, opened[place]]) for place, size in enumerate(sizes)]
    return soak.Soak(samples=samples)


@pytest.mark.parametrize("num_places", [_PLACES - 1, _PLACES])
def test_a_single_step_is_no_growth_wherever_it_is(num_places: int):
    steps = [[1 << 20 if place >= at else 0 for place in range(num_places)] for at in range(1, num_places)]
    assert not any(soaked(sizes).has_grown for sizes in steps)
    assert soaked([place << 17 for place in range(num_places)]).has_grown


def test_more_descriptors_are_growth():
    opened = [4] * (_PLACES // 2) + [5] * (_PLACES // 2)
    assert soaked([0] * _PLACES, opened).has_grown
    assert not soaked([0] * _PLACES, opened[::-1]).has_grown


def test_a_row_tells_how_sure_a_slope_is():
    slope = soak.Slope(0.5, 0.25)
    assert str(slope) == "+0.50 ± 0.50"
    found = soaked([place % 2 * 1_000_000 for place in range(_PLACES)])
    assert f"engine {found.slopes['engine']}" in torture._soaked("a real model", found, 1.0).notes
    assert found.slopes["engine"].error > 1


@pytest.mark.parametrize("num_samples", [0, 1, 2])
def test_two_samples_are_no_growth(num_samples: int):
    found = soaked([place * 1_000_000 for place in range(num_samples)])
    assert not torture._soaked("a real model", found, 1.0).wrong
    assert num_samples > 1 or found.slopes["engine"] == (0.0, inf)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_engine_that_dies_in_a_soak_is_told_as_lost(monkeypatch: pytest.MonkeyPatch):
    with subprocess.Popen(["true"]) as engine:
        pass

    class Asked:
        def __init__(self, *_: object) -> None:
            pass

        async def one(self, number: int) -> None:
            del number
            await asyncio.sleep(0.01)

    async def rest(_: int) -> None:
        raise ConnectionRefusedError

    async def started(*_: object) -> list[int]:
        return [engine.pid]

    monkeypatch.setattr(soak, "Load", Asked)
    monkeypatch.setattr(soak, "rest", rest)
    monkeypatch.setattr(soak, "started_engines", started)
    monkeypatch.setattr(soak, "engines_of", lambda _: [])
    async with asyncio.timeout(10):
        found = await soak._drive(0, os.getpid(), 0.2, 1, soak.scripted_question, 0.3)
    assert found.samples == []
    assert found.outcome.counts["engines lost"] == 1
