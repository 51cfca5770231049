"""Which model drafts for which: by its settings, or by an option of `omlx serve`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from omlx.server.commands.serve import command
from omlx.server.engine.process import EngineCommand
from omlx.server.errors import InsufficientMemory
from omlx.server.models.catalog import ModelEntry, ModelKind
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.footprint import Footprint
from omlx.server.serving import drafting, make_pool, mlx_engine_command
from omlx.server.settings import ServeSettings
from omlx.server.settings.model_store import ModelSettingsStore


def entry(name: str) -> ModelEntry:
    return ModelEntry(name, Path("/models") / name, ModelKind.LLM, "llama", 10, 4096)


LARGE, SMALL = entry("large"), entry("small")


@pytest.fixture
def store(tmp_path: Path) -> ModelSettingsStore:
    return ModelSettingsStore(tmp_path / "settings.json")


def test_the_engine_is_told_of_the_model_that_drafts(store: ModelSettingsStore, tmp_path: Path):
    command_of = mlx_engine_command(
        ServeSettings(tmp_path, (tmp_path,)), draft_of=drafting(lambda: [LARGE, SMALL], store, {})
    )
    assert "--draft-model" not in command_of(LARGE).argv
    store.change("small", {"alias": "tiny"})
    for name in ("small", "tiny"):
        store.change("large", {"draft_model": name})
        argv = command_of(LARGE).argv
        assert argv[argv.index("--draft-model") + 1] == "/models/small"
    assert "--draft-model" not in command_of(SMALL).argv


def test_the_option_goes_before_the_settings(store: ModelSettingsStore):
    store.change("large", {"draft_model": "other"})
    assert drafting(lambda: [LARGE, SMALL], store, {"large": "small"})(LARGE) == SMALL


def test_a_model_that_is_not_there_drafts_for_none_and_the_log_says_so(
    store: ModelSettingsStore, caplog: pytest.LogCaptureFixture
):
    store.change("large", {"draft_model": "smal"})
    with caplog.at_level(logging.WARNING):
        assert drafting(lambda: [LARGE, SMALL], store, {})(LARGE) is None
    assert "No model drafts for large: there is no 'smal' (did you mean small?)" in caplog.text


async def test_the_memory_that_a_model_needs_is_both_models(store: ModelSettingsStore):
    memory = DeviceMemory(total=2 * 2500, usable=2500)
    large, small = (replace(entry(name), footprint=Footprint(1000, 0)) for name in ("large", "small"))
    pool = make_pool([large, small], lambda _: EngineCommand(["true"], {}), store, memory, draft_of=lambda _: small)
    pool.preload("large")
    with pytest.raises(InsufficientMemory):
        pool.preload("small")
    await pool.close()


@pytest.mark.parametrize("arguments", [["--draft-model", "a"], ["--model", "b", "--draft-model", "a", "--distributed"]])
def test_the_option_wants_the_model_that_it_is_for(arguments: list[str]):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "--draft-model goes with --model, on one machine" in result.output
