"""`omlx launch AGENT --print-env`: a shell that takes the lines runs the agent as the launch would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.integrations import find, names
from omlx.integrations.spec import Integration
from omlx.launcher.cli import commands
from omlx.launcher.state import write_private

from .fake_server import FakeServer

AGENTS = {name: agent for name in names() if (agent := find(name)) is not None and agent.wire is not None}
every_launch = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
NO_KEYCHAIN = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
Run = Callable[..., Result]


@pytest.fixture
def environ(tmp_path: Path, server: FakeServer) -> dict[str, str]:
    """A throw-away home with `omlx` on its PATH, and a server."""
    server.serve_models({"id": "m", "max_model_len": 131_072})
    omlx = tmp_path / "bin" / "omlx"
    omlx.parent.mkdir()
    omlx.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from omlx.launcher.cli import main; main()' \"$@\"\n")
    omlx.chmod(0o755)
    path = f"{omlx.parent}:/usr/bin:/bin"
    return {"HOME": str(tmp_path), "PATH": path, "OMLX_URL": server.url, **NO_KEYCHAIN}


@pytest.fixture
def omlx(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **variables: str) -> Result:
        done = CliRunner().invoke(commands, arguments, env={**environ, "OMLX_API_KEY": "", **variables})
        assert done.exit_code == 0, done.output
        return done

    return run


def sourced(lines: str, then: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = f"{lines}\n{then}\n"
    return subprocess.run(["/bin/sh", "-euc", script], env=environ, capture_output=True, text=True, check=False)


@every_launch
def test_the_shell_has_the_key_and_every_file_that_the_lines_name(
    agent: Integration, omlx: Run, environ: dict[str, str], fake_agent: Callable[[str], Path], tmp_path: Path
):
    fake_agent(agent.executable)
    printed = omlx("launch", agent.name, "--print-env")
    folder = tmp_path / ".omlx" / "shell" / agent.name
    named = {
        Path(found) for found in re.findall(rf"{re.escape(str(tmp_path))}/\.omlx/[^\s'\",;:\]}}]+", printed.stdout)
    }
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in named if not path.exists()] == []
    assert bool(named) == bool(written)
    assert (str(folder) in printed.stderr) == bool(written)
    assert not (tmp_path / ".omlx" / "run").exists(), "where files are swept"

    done = sourced(printed.stdout, f"{agent.executable} hello", environ)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[[line.startswith("argument") for line in lines].index(False) - 1] == "argument hello"
    assert "OMLX_API_KEY=none" in lines
    assert environ["OMLX_URL"] in done.stdout or written, "and where the server is"


def test_arguments_of_the_users_own_stand_in_the_comment_alone(omlx: Run):
    *_, function, comment = omlx("launch", "pi", "--print-env", "--", "-p", "hi").stdout.splitlines()
    assert re.fullmatch(r'pi\(\) \{ command pi -e \S+omlx\.ts --model omlx/m "\$@"; \}', function)
    assert comment.endswith("omlx.ts --model omlx/m -p hi")


@every_launch
def test_in_a_shell_that_took_the_lines_our_files_are_not_taken_for_the_users(
    agent: Integration, omlx: Run, environ: dict[str, str], tmp_path: Path
):
    lines = sourced(omlx("launch", agent.name, "--print-env").stdout, "env", environ).stdout.splitlines()
    taken = {name: value for name, _, value in (line.partition("=") for line in lines) if str(tmp_path) in value}
    shell = {name: value for name, value in taken.items() if name not in environ and name != "PWD"}
    assert str(tmp_path / ".omlx" / "shell") not in omlx("launch", agent.name, "--dry-run", **shell).output
    if agent.edits is not None:
        wired = omlx("wire", agent.name, "--dry-run", **shell)
        assert wired.stdout == omlx("wire", agent.name, "--dry-run").stdout


@pytest.mark.parametrize("name", ["hermes", "aider"])
def test_a_key_that_is_only_kept_is_fetched_and_not_printed(
    omlx: Run, environ: dict[str, str], server: FakeServer, tmp_path: Path, name: str
):
    state = {"pid": os.getpid(), "host": "127.0.0.1", "port": 1, "url": server.url, "instance_id": "x"}
    write_private(tmp_path / ".omlx" / "run" / "server.json", json.dumps(state))
    key = omlx("key", "new", name, "--yes").stdout.strip()
    printed = omlx("launch", name, "--print-env")
    assert key not in printed.output
    variable = "OPENAI_API_KEY" if name == "aider" else "OMLX_API_KEY"
    assert sourced(printed.stdout, f"env | grep ^{variable}=", environ).stdout == f"{variable}={key}\n"
    in_shell = omlx("launch", name, "--print-env", OMLX_API_KEY=key)
    assert "omlx key show" not in in_shell.stdout, "the shell has it"
