"""The benchmark in its shortest form: it measures both servers, and its sums are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from .measure import Samples, measure, prompt
from .report import rows, table
from .servers import mlx_lm, omlx


def test_a_ratio_above_one_means_that_ours_is_faster() -> None:
    ours = Samples(start_seconds=[2.0], first_token_seconds=[0.5, 1.0, 9.0], tokens_per_second=[8.0])
    theirs = Samples(start_seconds=[1.0], first_token_seconds=[2.0], tokens_per_second=[4.0])

    assert [row.ratio for row in rows(ours, theirs)] == [0.5, 2.0, 2.0]


def test_no_two_prompts_share_a_beginning() -> None:
    beginnings = [prompt(number)[:3] for number in range(20)]

    assert len(set(beginnings)) == 20


@pytest.mark.e2e
@pytest.mark.bench
def test_both_servers_are_timed_on_the_embedded_model(tmp_path: Path, embedded_model: Path) -> None:
    contenders = [omlx(embedded_model), mlx_lm(embedded_model)]

    ours, theirs = measure(contenders, rounds=1, requests=1, max_tokens=8, log_folder=tmp_path)

    printed = table(rows(ours, theirs), contenders)
    assert all(value > 0 for samples in (ours, theirs) for value in samples.tokens_per_second)
    assert "omlx" in printed
    assert "mlx_lm.server" in printed
