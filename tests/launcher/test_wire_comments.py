"""A home full of comments: wiring keeps each of them where it is, and restoring leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.launcher.cli import commands

from ..e2e import own_files
from .fake_server import FakeServer

Run = Callable[..., Result]
COMMENTED = {
    "aider": (".aider.conf.yml", own_files.AIDER),
    "codex": (".codex/config.toml", own_files.CODEX),
    "codex_app": (".codex/config.toml", own_files.CODEX),
    "copilot": (".copilot/settings.json", own_files.COPILOT),
    "goose": (".config/goose/config.yaml", own_files.GOOSE),
    "hermes": (".hermes/config.yaml", own_files.HERMES),
    "kilo": (".config/kilo/kilo.jsonc", own_files.OPENCODE),
    "openclaw": (".openclaw/openclaw.json", own_files.OPENCLAW),
    "opencode": (".config/opencode/opencode.jsonc", own_files.OPENCODE),
    "pi": (".pi/agent/models.json", own_files.PI),
    "qwen": (".qwen/settings.json", own_files.QWEN),
    "vibe": (".vibe/config.toml", own_files.VIBE),
}
"""The others' files are JSON, which takes no comments."""


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", COMMENTED)
def test_every_comment_stays_in_its_place_and_restoring_gives_the_bytes_back(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str, ends: str
):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    monkeypatch.chdir(tmp_path)
    place, text = COMMENTED[name]
    before = text.replace("\n", ends).encode()
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before)

    def omlx(*arguments: str) -> Result:
        return CliRunner().invoke(commands, arguments, env={"HOME": str(tmp_path), "OMLX_URL": server.url})

    wired = omlx("wire", name, "--yes")
    assert wired.exit_code == 0, wired.stderr
    after = path.read_bytes()
    assert after != before
    assert own_files.NOTE.findall(after.decode()) == own_files.NOTE.findall(text)
    assert after.count(b"\n") == after.count(ends.encode())
    touched = [line[1:] for line in wired.stdout.splitlines() if line.startswith("-") and not line.startswith("---")]
    untouched = [line for line in text.splitlines() if line.strip() not in {line.strip() for line in touched}]
    assert set(untouched) <= set(after.decode().splitlines())
    assert omlx("restore", name, "--yes").exit_code == 0
    assert path.read_bytes() == before
