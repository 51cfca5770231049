"""A model's settings: written, read anew when the file changes, never lost to a file gone wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omlx.server.errors import SettingsError
from omlx.server.settings.model_store import ModelSettingsStore
from omlx.server.settings.values import ModelSettings


def write(path: Path, content: object) -> None:
    """Write as an editor does, with a time that differs from the last one."""
    text = content if isinstance(content, str) else json.dumps(content)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_a_change_holds_at_once_and_for_good(tmp_path: Path):
    path = tmp_path / "settings.json"
    write(path, {"server": {"port": 1}, "future": {"a": 1}})
    store = ModelSettingsStore(path)
    assert store.get("org/m") == ModelSettings()
    changed = store.change("org/m", {"max_context_window": 131072, "alias": "coder"})
    assert changed == store.get("org/m") == ModelSettings(max_context_window=131072, alias="coder")
    assert store.real_name("coder") == "org/m"
    assert ModelSettingsStore(path).get("org/m") == changed
    assert json.loads(path.read_text())["future"] == {"a": 1}
    assert store.change("org/m", {"max_context_window": None}) == ModelSettings(alias="coder")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_tokens": 5, "max_tokns": 5}, "did you mean models.m.max_tokens"),
        ({"max_tokens": 5, "top_p": 2}, "top_p is 2: expected a number <= 1"),
        ({"max_tokens": 5, "alias": "taken"}, "the alias 'taken' is"),
    ],
)
def test_a_change_is_made_wholly_or_not_at_all(tmp_path: Path, changes: dict, words: str):
    path = tmp_path / "settings.json"
    write(path, {"models": {"other": {"alias": "taken"}}})
    store = ModelSettingsStore(path)
    before = path.read_text()
    with pytest.raises(SettingsError, match=words):
        store.change("m", changes)
    assert (store.get("m"), path.read_text()) == (ModelSettings(), before)


def test_an_edited_file_is_read_anew_and_a_broken_one_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "settings.json"
    store = ModelSettingsStore(path)
    write(path, {"models": {"m": {"max_tokens": 5}}})
    assert store.get("m").max_tokens == 5
    write(path, '{"models": {\n"m": {"max_tokens": 0}}}')
    assert [store.get("m").max_tokens for _ in range(3)] == [5, 5, 5]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "settings.json:2: models.m.max_tokens is 0" in caplog.text
    write(path, {"models": {"m": {"max_tokens": 6}}})
    assert store.get("m").max_tokens == 6


def test_a_broken_file_stops_the_start(tmp_path: Path):
    write(tmp_path / "settings.json", "{")
    with pytest.raises(SettingsError, match=r"settings.json:1: is not valid JSON"):
        ModelSettingsStore(tmp_path / "settings.json")
