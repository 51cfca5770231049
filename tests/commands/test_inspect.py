"""`omlx inspect`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omlx.server.errors import ModelNotFound

from ..models.test_mtp import REASONS, write_tensors
from ..text_model import build_text_model
from ..tiny_model import build_tiny_model, needs_embedded_model
from .conftest import Run


@needs_embedded_model
def test_a_model_is_described_from_its_files(run: Run, home: Path):
    build_tiny_model(home / "models" / "org" / "tiny", context_window=16_384)
    found = json.loads(run("inspect", "org/tiny", "--json").stdout)
    assert (found["architecture"], found["context_window"], found["mtp_compatible"]) == ("llama", 16_384, False)
    assert "no MTP layer" in found["mtp_compatibility_reason"]
    assert found["tool_parser"] == "hermes"
    assert [row["window"] for row in found["memory"]] == [8_192, 16_384]
    small, large = found["memory"]
    assert large["kv_bytes"] == 2 * small["kv_bytes"] > 0
    assert large["fits"]
    shown = run("inspect", "org/tiny").stdout
    assert "MTP           no: it has no MTP layer" in shown
    assert "16,384 tokens" in shown


@pytest.mark.parametrize(("config", "names", "reason"), REASONS, ids=["declared and missing", "a drafter"])
def test_why_it_cannot_draft_is_said(config: dict[str, Any], names: list[str], reason: str, run: Run, home: Path):
    build_text_model(home / "models" / "m")
    (home / "models" / "m" / "model.safetensors").unlink()
    write_tensors(home / "models" / "m", config, names)
    found = json.loads(run("inspect", "m", "--json").stdout)
    assert found["mtp_compatible"] is False
    assert found["mtp_compatibility_reason"].startswith(reason)
    assert f"MTP           no: {reason}" in run("inspect", "m").stdout


def test_an_unknown_model_is_told_with_those_there_are(run: Run):
    with pytest.raises(ModelNotFound):
        run("inspect", "nothing")
