"""What Tab completes of the server's commands, asked as shells ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from omlx.server.__main__ import commands


def completed(*words: str) -> list[str]:
    """What the last word may become."""
    asked = ShellComplete(commands, {}, "omlx", "_OMLX_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value for item in asked]


@pytest.fixture(autouse=True)
def models(home: Path) -> Path:
    for model_id in ("org/one", "two"):
        (home / "models" / model_id).mkdir(parents=True)
        (home / "models" / model_id / "config.json").write_text("{}")
    return home / "models"


@pytest.mark.parametrize(
    "words", [("inspect",), ("rm",), ("convert",), ("serve", "--model"), ("serve", "--draft-model")]
)
def test_models_are_completed_from_their_folders(words: tuple[str, ...]) -> None:
    assert completed(*words, "") == ["org/one", "two"]
    assert completed(*words, "o") == ["org/one"]


def test_models_of_a_folder_that_is_named_are_completed(models: Path) -> None:
    assert completed("inspect", "--model-dir", str(models / "org"), "") == ["one"]


def test_the_names_of_settings_are_completed() -> None:
    for verb in ("get", "set", "unset"):
        assert completed("config", verb, "server.p") == ["server.port"]
        assert completed("config", verb, "models.two.max_t") == ["models.two.max_tokens"]
    assert "models." in completed("config", "get", "")


def test_settings_that_cannot_be_read_complete_no_model(home: Path) -> None:
    (home / "settings.json").write_text("?")
    assert completed("inspect", "") == []


def test_the_options_of_serve_are_completed() -> None:
    assert completed("serve", "--mod") == ["--model-dir", "--model"]
