from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.server.__main__ import commands
from omlx.server.stop_signals import STOP_SIGNALS

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """omlx's folder, in a throw-away home with no hub but the test's."""
    monkeypatch.setenv("OMLX_HOME", str(tmp_path / "omlx"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "omlx"


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """A server keeps the signals it has caught to the end of its process, which these tests go on in."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(home: Path) -> Run:
    """Runs a command of the server's side; errors raised on purpose come out as they are."""

    def run_command(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(commands, arguments, catch_exceptions=False, **options)  # type: ignore[arg-type]

    assert not home.exists()
    return run_command
