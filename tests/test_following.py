"""A rank that is not the first starts its engine again where a new one can come into the group."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from omlx.server import following
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.ranks import DISAGREES_STATUS

_NOTING = "import sys; open(sys.argv[1], 'a').write('.'); sys.exit(int(sys.argv[2]))"


@pytest.mark.parametrize(
    ("launched_by", "status", "result", "num_starts"),
    [("MLX_RANK", 1, 1, 3), ("OMPI_COMM_WORLD_RANK", 1, 1, 1), ("MLX_RANK", DISAGREES_STATUS, DISAGREES_STATUS, 1)],
    ids=["by mlx.launch", "by mpirun", "unlike rank 0"],
)
def test_an_engine_that_dies_is_started_again_unless_it_could_not_come_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    launched_by: str,
    status: int,
    result: int,
    num_starts: int,
) -> None:
    for pause in ("_PAUSE_SECONDS", "_LAST_WORD_SECONDS"):
        monkeypatch.setattr(following, pause, 0.0)
    starts = tmp_path / "starts"
    command = EngineCommand([sys.executable, "-c", _NOTING, str(starts), str(status)], {})
    ticks = count()
    rejoins = following.can_rejoin({launched_by: "1"})
    assert following.follow(command, can_rejoin=rejoins, clock=lambda: float(next(ticks))) == result
    assert starts.read_text() == "." * num_starts
    assert ("The engine ended with status 1" in caplog.text) is (status == 1)
    assert ("quick death 2 of 3" in caplog.text) is (num_starts == 3)
    assert ("then start the group again" in caplog.text) is (num_starts == 3)
