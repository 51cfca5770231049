"""What Tab completes, asked as shells ask: agents, models, keys, and the server's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from omlx.launcher.cli import commands
from omlx.launcher.keys import new_admin_key, new_key

from .fake_server import FakeServer


def completed(*words: str) -> list[str]:
    """What the last word may become."""
    asked = ShellComplete(commands, {}, "omlx", "_OMLX_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value for item in asked]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OMLX_URL", "OMLX_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMLX_HOME", str(tmp_path / "omlx"))
    for model_id in ("org/one", "two"):
        folder = tmp_path / "omlx" / "models" / model_id
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    return tmp_path / "omlx"


def test_agents_are_completed_where_one_is_to_be_named(home: Path) -> None:
    assert home.is_dir()
    assert completed("launch", "ope") == ["openclaw", "opencode"]
    assert "pi" in completed("wire", "")
    assert completed("restore", "") == []


def test_the_running_servers_models_are_completed(home: Path, server: FakeServer) -> None:
    assert home.is_dir()
    server.serve_models({"id": "large"}, {"id": "little", "omlx": {"alias": "quick"}})
    assert completed("launch", "pi", "--url", server.url, "--model", "l") == ["large", "little"]
    for command in (("chat",), ("probe",), ("bench",), ("wire", "pi")):
        assert completed(*command, "--url", server.url, "--model", "la") == ["large"]
    assert completed("launch", "pi", "--url", server.url, "--haiku", "x") == []


def test_without_a_server_the_models_of_the_folder_are_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.is_dir()
    for url in ("http://127.0.0.1:1", "no address:"):
        monkeypatch.setenv("OMLX_URL", url)
        assert completed("launch", "pi", "--model", "") == ["org/one", "two"]
        assert completed("chat", "--model", "o") == ["org/one"]


def test_the_names_of_keys_are_completed_and_a_broken_file_completes_nothing(home: Path) -> None:
    new_key(home, "pi", datetime.now(UTC))
    assert completed("key", "revoke", "") == completed("key", "rotate", "p") == ["pi"]
    new_admin_key(home, datetime.now(UTC))
    assert completed("key", "revoke", "") == ["admin", "pi"]
    assert completed("key", "rotate", "") == completed("key", "show", "") == ["pi"]
    (home / "keys.json").write_text("?")
    assert completed("key", "revoke", "") == []


def test_the_servers_side_completes_its_own_commands(home: Path) -> None:
    def asked(line: str) -> list[str]:
        environ = {
            **os.environ,
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
            "_OMLX_COMPLETE": "bash_complete",
        }
        command = [sys.executable, "-c", "from omlx.launcher.cli import main; main()"]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        assert ended.stderr == ""
        return [line.removeprefix("plain,") for line in ended.stdout.splitlines()]

    assert asked("omlx serve --mod") == ["--model-dir", "--model"]
    assert asked("omlx inspect o") == ["org/one"]
    assert asked("omlx config set server.p") == ["server.port"]
    assert home.is_dir()
