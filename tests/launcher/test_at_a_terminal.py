"""What somebody at a terminal sees of `omlx`: colours unless NO_COLOR says otherwise, JSON alone with --json, an end
with Ctrl-C that is told by the exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from omlx.server.__main__ import commands as server_commands

from .fake_server import FakeServer

OMLX = [sys.executable, "-c", "from omlx.launcher.cli import main; main()"]
COLOUR = "\x1b[3"
LISTINGS = ("doctor", "status", "ps", "wired", "key list", "launch --list", "list", "config show --origin", "logs")
LOG = "2026-11-25 10:00:00,000 WARNING omlx.x: odd\n2026-11-25 10:00:01,000 INFO omlx.x: well\n"


@dataclass(frozen=True)
class Shown:
    code: int
    text: str


@pytest.fixture
def environ(server: FakeServer, tmp_path: Path) -> Mapping[str, str]:
    server.serve_models({"id": "m", "max_model_len": 131_072})
    (tmp_path / ".omlx" / "logs").mkdir(parents=True)
    (tmp_path / ".omlx" / "logs" / "server.log").write_text(LOG)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return {"HOME": str(tmp_path), "PATH": path, "OMLX_URL": server.url, "TERM": "xterm-256color"}


def at_terminal(arguments: str, environ: Mapping[str, str], ctrl_c_after: str = "") -> Shown:
    """Run it on a terminal of its own, and send it Ctrl-C's signal once it has written this."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*OMLX, *arguments.split()],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(environ),
        # What runs in a shell's background ignores it, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(theirs)
        text = ""
        try:
            while piece := os.read(ours, 65536).decode(errors="replace"):
                text += piece
                if ctrl_c_after and ctrl_c_after in text:
                    process.send_signal(signal.SIGINT)
                    ctrl_c_after = ""
        except OSError:
            pass  # Linux's word for a terminal that nobody has open any more
        finally:
            os.close(ours)
    return Shown(process.returncode, text)


@pytest.mark.parametrize("arguments", LISTINGS)
def test_no_color_is_respected(arguments: str, environ: Mapping[str, str]):
    shown = at_terminal(arguments, {**environ, "NO_COLOR": "1"})
    assert COLOUR not in shown.text
    assert "Traceback" not in shown.text


@pytest.mark.parametrize(("arguments", "coloured"), [("doctor", "\x1b[32m✓"), ("logs", "\x1b[33m2026-11-25 10:00:00")])
def test_a_terminal_gets_colours_where_they_say_something(arguments: str, coloured: str, environ: Mapping[str, str]):
    shown = at_terminal(arguments, environ)
    assert coloured in shown.text
    assert "omlx.x: well\x1b" not in shown.text


@pytest.mark.parametrize("arguments", LISTINGS)
def test_with_json_a_program_reads_nothing_else(arguments: str, environ: Mapping[str, str]):
    done = subprocess.run([*OMLX, *arguments.split(), "--json"], env=dict(environ), capture_output=True, check=False)
    documents = done.stdout.decode().splitlines() if arguments == "logs" else [done.stdout.decode()]
    assert all(isinstance(json.loads(document), list | dict) for document in documents)
    assert documents != []


def test_ctrl_c_ends_with_its_own_exit_code(environ: Mapping[str, str]):
    shown = at_terminal("logs -f", environ, ctrl_c_after="omlx.x: well")
    assert shown.code == 130
    assert "Aborted" not in shown.text


def test_ctrl_c_ends_the_servers_commands_likewise(monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("omlx.server.commands.list.settings_now", interrupted)
    assert CliRunner().invoke(server_commands, ["list"]).exit_code == 130


def test_a_server_that_is_not_there_is_told_without_the_systems_numbers(environ: Mapping[str, str]):
    shown = at_terminal("ps", {**environ, "OMLX_URL": "http://127.0.0.1:1"})
    assert shown == Shown(
        4,
        "omlx: nothing answers at http://127.0.0.1:1, which OMLX_URL names. Start it with `omlx serve --port 1`\r\n",
    )
