"""The comparison in its shortest form: every row gets its figures, and the ratios are the right way round."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compare import rounds, table
from .cut_model import cut
from .scenarios import GOALS, SAME_TEXT, SCENARIOS
from .servers import omlx

GAP = "longest gap of 4 streams while 4K arrive"


def test_a_ratio_above_one_means_that_ours_is_better_than_the_best_peer_or_the_one_that_is_named() -> None:
    samples = {
        "omlx": {"8 streams": [30.0], "2K again: TTFT": [0.5], "2K cold, over again from memory": [60.0], GAP: [0.5]},
        "mlx_lm.server": {"8 streams": [15.0], "2K again: TTFT": [1.0], GAP: [6.0]},
        "b": {"8 streams": [20.0], "2K again: TTFT": [0.25], GAP: [1.0]},
    }

    rows = table(samples, pass_seconds=0.01, whole_pass_seconds=0.1).splitlines()

    assert [row.removesuffix(" |").split(" | ")[-3:] for row in rows[2:]] == [
        ["12.00", "10.00 of mlx_lm.server", ""],
        ["1.50", "1.10", "800"],
        ["0.50", "1.00", "0.1"],
        ["", "at least 50", ""],
    ]


@pytest.mark.e2e
@pytest.mark.bench
def test_every_row_gets_its_figures(tmp_path: Path, embedded_model: Path) -> None:
    model = cut(embedded_model, 1, tmp_path)

    samples = rounds([omlx(model)], SCENARIOS, 0.05, 1, model)

    assert samples["omlx"].keys() >= GOALS.keys() - {SAME_TEXT}  # there is nobody to compare it with
    gap = samples["omlx"].pop(GAP)
    assert gap[0] >= 0  # the short form's streams may end before the long prompt comes
    assert all(values[0] > 0 for values in samples["omlx"].values())
