"""The public oMLX's files: what is taken, what is not, and why. Nothing of theirs is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omlx.server.errors import SettingsError
from omlx.server.settings.document import read_document
from omlx.server.settings.importing import import_public
from omlx.server.settings.layers import layered
from omlx.server.settings.loading import load_document

PUBLIC = {
    "version": "1.0",
    "server": {"host": "127.0.0.1", "port": 8123, "log_level": "info"},
    "model": {"model_dirs": ["/models"], "model_dir": None, "model_fallback": True},
    "scheduler": {"max_concurrent_requests": 4},
    "cache": {
        "enabled": True,
        "ssd_cache_dir": "/fast",
        "ssd_cache_max_size": "100GB",
        "hot_cache_max_size": "0",
        "hot_cache_only": False,
    },
    "auth": {"api_key": "sk-public", "skip_api_key_verification": False},
    "sampling": {"max_context_window": 32768},
}
PUBLIC_MODELS = {
    "version": 1,
    "models": {
        "Qwen3": {
            "max_context_window": 65536,
            "temperature": 0.6,
            "top_k": None,
            "model_alias": "coder",
            "enable_thinking": False,
            "thinking_budget_enabled": False,
            "thinking_budget_tokens": 4096,
            "is_pinned": True,
            "ttl_seconds": 600,
            "reasoning_parser": "qwen",
            "dflash_enabled": True,
            "specprefill_enabled": False,
        }
    },
}


def write_public(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(PUBLIC, indent=2))
    (folder / "model_settings.json").write_text(json.dumps(PUBLIC_MODELS))
    return folder


def test_both_files_are_taken_over_and_every_setting_is_accounted_for(tmp_path: Path):
    target = tmp_path / "ours" / "settings.json"
    found = import_public(write_public(tmp_path / "theirs"), target, ["org/Qwen3"])
    assert read_document(target).content == {
        "version": 1,
        "server": {"host": "127.0.0.1", "port": 8123, "model_dirs": ["/models"]},
        "engine": {"max_num_seqs": 4},
        "cache": {"enabled": True, "folder": "/fast/omlx", "ssd_bytes": "100GB"},
        "models": {
            "org/Qwen3": {
                "max_context_window": 65536,
                "temperature": 0.6,
                "alias": "coder",
                "thinking": False,
                "pin": True,
                "ttl_seconds": 600.0,
            }
        },
    }
    left = {each.name: each.reason for each in found.left}
    assert "OMLX_API_KEY" in left["auth.api_key"]
    assert "each model has its own" in left["sampling.max_context_window"]
    assert "expected one of" in left["models.Qwen3.reasoning_parser"]
    assert left["models.Qwen3.dflash_enabled"] == "omlx has no such setting"
    assert "models.Qwen3.specprefill_enabled" not in left
    assert "sk-public" not in target.read_text() + str(found)


def test_a_public_file_in_our_place_is_read_as_what_it_is(tmp_path: Path):
    path = write_public(tmp_path) / "settings.json"
    before = path.read_text()
    document, warnings = load_document(path)
    assert layered(document, {}, {}).values["server.port"].place == f"{path}:5"
    assert "omlx config import" in warnings[0]
    assert path.read_text() == before


def test_imported_in_place_the_public_file_stays_beside_ours(tmp_path: Path):
    path = write_public(tmp_path) / "settings.json"
    import_public(tmp_path, path)
    assert json.loads((tmp_path / "settings.json.public").read_text()) == PUBLIC
    assert read_document(path).content["version"] == 1
    assert layered(load_document(path)[0], {}, {}).values["models.Qwen3.temperature"].value == 0.6


def test_nothing_is_written_where_the_copy_would_replace_another(tmp_path: Path):
    path = write_public(tmp_path) / "settings.json"
    (tmp_path / "settings.json.public").write_text("older")
    with pytest.raises(SettingsError, match="exists already"):
        import_public(tmp_path, path)
    assert json.loads(path.read_text()) == PUBLIC


def test_an_import_keeps_what_we_had_and_a_dry_run_writes_nothing(tmp_path: Path):
    target = tmp_path / "ours.json"
    target.write_text('{"server": {"heartbeat_seconds": 3, "port": 1}}')
    theirs = write_public(tmp_path / "theirs")
    assert import_public(theirs, target, write=False).taken
    assert read_document(target).content == {"server": {"heartbeat_seconds": 3, "port": 1}}
    import_public(theirs / "settings.json", target)
    assert layered(read_document(target), {}, {}).values["server.heartbeat_seconds"].value == 3
    assert layered(read_document(target), {}, {}).values["server.port"].value == 8123


@pytest.mark.parametrize("name", ["", "settings.json"])
def test_what_is_not_theirs_is_refused(tmp_path: Path, name: str):
    if name:
        (tmp_path / name).write_text('{"version": 1}')
    with pytest.raises(SettingsError, match=r"settings\.json"):
        import_public(tmp_path, tmp_path / "ours.json")
