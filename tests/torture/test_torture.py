"""The short form of `make torture`: some of everything, every time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from . import disk
from .load import load
from .warm import KINDS, LENGTH, edges, warm


def test_no_answer_is_lost_doubled_or_crossed_while_clients_come_and_go():
    outcome = load(200, parallel=16, cut_share=0.3, seed=3)
    assert outcome.wrong == 0, outcome.counts
    assert outcome.counts["answered"] > 100
    assert outcome.counts["cut"] > 20


def test_a_killed_writer_of_the_cache_leaves_nothing_wrong(tmp_path: Path):
    counts = disk.kills(tmp_path, 15)
    assert counts["read"] > 0
    assert not {name: counts[name] for name in ("wrong", "over the cap", "left over") if counts[name]}


def test_a_damaged_block_is_never_served(tmp_path: Path):
    counts = disk.faults(tmp_path, 100)
    assert counts["wrong"] == 0
    assert counts["thrown away"] > 80


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_after_a_hit_is_the_cold_one_wherever_the_prompt_is_cut(kind: str, tmp_path: Path):
    cuts = [*random.Random(kind).sample(edges(LENGTH), 4), 127, 128, 129, 255, 256, 257]
    found = warm(kind, tmp_path, cuts, seed=11)
    assert not found.wrong, found.wrong
    assert found.hits["memory"] == found.answers["memory"]
    for where in ("disk", "restart"):
        assert found.read[where] > 0
        assert found.hits[where] >= found.answers[where] // 3
