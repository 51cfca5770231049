"""Claude Code on a tiny random model: real engine, real cache; the second turn computes only what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..tiny_model import needs_embedded_model
from .harness import OMLX, make_bench
from .recording_proxy import Exchange
from .wordy_model import WORDS, build_wordy_model

pytestmark = [pytest.mark.e2e, needs_embedded_model]


def test_the_second_turn_of_claude_code_reuses_the_first_ones_prefix(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, "claude")
    model = build_wordy_model(tmp_path / "models" / "wordy")
    launch = ["launch", "claude", "--model", model.name, "--"]

    outcome = bench.run(
        [OMLX, "serve", "--model-dir", str(model.parent), "--port", "0"],
        [*launch, "-p", "Say something."],
        [*launch, "-c", "-p", "Say more."],
    )

    assert [run.exit_code for run in outcome.runs] == [0, 0], str(outcome)
    for run in outcome.runs:
        words = run.output.split()
        assert words, str(outcome)
        assert set(words) <= set(WORDS), str(outcome)
    first, second = outcome.posts("/v1/messages")
    before, after = usage(first), usage(second)
    assert before["cache_read_input_tokens"] == 0
    whole = before["input_tokens"]
    assert whole > 8000, "Claude Code's own prompt is long"
    assert after["cache_read_input_tokens"] > 0.98 * whole
    assert after["input_tokens"] < 0.05 * whole
    assert f"cached_tokens={after['cache_read_input_tokens']} " in outcome.server_log
    assert "Say something." in second.request
    assert outcome.runs[0].output.split()[0] in second.request
    assert outcome.server_exit_code == 0, outcome.server_log


def usage(exchange: Exchange) -> dict[str, int]:
    """What the stream reported, the last word counting."""
    events = [json.loads(line.removeprefix("data: ")) for line in exchange.answer.splitlines() if "usage" in line]
    found = [event.get("usage") or event["message"]["usage"] for event in events]
    return {name: value for report in found for name, value in report.items() if isinstance(value, int)}
