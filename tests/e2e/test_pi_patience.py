"""Pi waits for a slow answer whatever its own idle timeout is, and asks once: it would ask again for ever."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .harness import COMMANDS, OMLX, Bench, make_bench
from .slow_server import ANSWER, MODEL

pytestmark = pytest.mark.e2e

SERVE = [sys.executable, "-m", "tests.e2e.slow_server", "4"]


@pytest.fixture
def impatient(tmp_path: Path) -> Bench:
    """A home whose user had Pi give up after a second."""
    bench = make_bench(tmp_path, "pi")
    (bench.home / ".pi/agent/settings.json").write_text('{"httpIdleTimeoutMs": 1000}\n')
    return bench


def test_launched_for_one_run_it_waits(impatient: Bench) -> None:
    outcome = impatient.run(SERVE, ["launch", "pi", "--model", MODEL, "--", "-p", "Say something."])
    assert outcome.runs[0].output.strip() == ANSWER, str(outcome)
    assert len(outcome.posts("/v1/chat/completions")) == 1


def test_wired_for_good_it_waits(impatient: Bench) -> None:
    outcome = impatient.play(
        SERVE,
        [
            [OMLX, "wire", "pi", "--model", MODEL, "--url", "{url}", "--yes"],
            [str(COMMANDS / "pi"), "-p", "Say something."],
            [OMLX, "restore", "pi", "--yes"],
        ],
    )
    assert outcome.runs[1].output.strip() == ANSWER, str(outcome)
    assert len(outcome.posts("/v1/chat/completions")) == 1


def test_left_to_itself_it_asks_again(impatient: Bench) -> None:
    """Else the two above would prove nothing."""
    settings = '{"httpIdleTimeoutMs": 1000, "retry": {"provider": {"timeoutMs": 1000}, "maxRetries": 1}}'
    (impatient.home / ".pi/agent/settings.json").write_text(settings)
    outcome = impatient.run(SERVE, ["launch", "pi", "--model", MODEL, "--", "-p", "Say something."])
    assert "retry.provider.timeoutMs, which overrides omlx's" in outcome.runs[0].errors
    assert len(outcome.posts("/v1/chat/completions")) > 1, str(outcome)
