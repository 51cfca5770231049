"""With `--json` every command refuses in JSON: on standard output, alone, with the exit code that is documented."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from omlx.launcher import cli
from omlx.server import __main__ as server_side

Refused = Callable[..., tuple[int, str]]
NOWHERE = "http://127.0.0.1:1"
OF_THE_SERVER = set(server_side.commands.list_commands(click.Context(server_side.commands)))
HARMLESS = {("serve",), ("doctor",), ("config", "schema"), ("logs",)}
"""`serve` runs, `doctor` tells what is wrong as its answer, the last two have nothing to refuse."""
DOWN = {("status",), ("ps",), ("probe",), ("bench",), ("chat",)}
REFUSALS = {
    **dict.fromkeys(DOWN, ()),
    ("launch",): ("nobody", "--dry-run"),
    ("wire",): ("nobody", "--dry-run"),
    ("restore",): ("pi", "--dry-run"),
    ("wired",): (),
    ("stop",): (),
    ("completion",): (),
    ("key", "new"): ("pi",),
    ("key", "admin"): (),
    ("key", "rotate"): ("pi",),
    ("key", "revoke"): ("pi",),
    ("key", "show"): ("pi",),
    ("key", "list"): (),
    **{("service", verb): () for verb in ("install", "start", "stop", "status", "uninstall")},
    ("config", "show"): (),
    ("config", "get"): ("server.port",),
    ("config", "set"): ("server.port", "x"),
    ("config", "unset"): ("server.port",),
    ("config", "validate"): (),
    ("config", "import"): ("settings.json",),
    ("cache", "clear"): (),
    ("cluster", "plan"): ("nothing", "--hosts", "settings.json"),
    ("cluster", "check"): ("--hosts", "settings.json"),
    ("convert",): ("nothing", "--bits", "4"),
    ("import",): ("settings.json",),
    ("inspect",): ("nothing",),
    ("list",): (),
    ("pull",): ("nothing",),
    ("rm",): ("nothing",),
}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command, as its console script would, in a home whose files are all broken and that nobody serves."""
    home = tmp_path / ".omlx"
    (home / "run").mkdir(parents=True)
    (home / "journal").mkdir()
    for name in ("settings.json", "keys.json", "journal/pi.json"):
        (home / name).write_text("{")
    (tmp_path / "settings.json").write_text("{")
    for name, value in {"HOME": str(tmp_path), "OMLX_HOME": str(home), "OMLX_URL": NOWHERE, "SHELL": "/bin/ed"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMLX_API_KEY", raising=False)
    monkeypatch.setattr("omlx.launcher.commands.service._service", _no_service)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a question for `omlx chat`"))

    def run(*words: str) -> tuple[int, str]:
        if words[0] == "stop":
            (home / "run" / "server.json").write_text("{")
        monkeypatch.setattr(sys, "argv", ["omlx", *words])
        with pytest.raises(SystemExit) as ended:
            (server_side if words[0] in OF_THE_SERVER else cli).main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out

    return run


def _no_service() -> None:
    from omlx.launcher.errors import ServiceError

    raise ServiceError("this system has no services; run `omlx serve`")


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name)


ALL = {path for path in leaves(cli.commands) if path[0] not in OF_THE_SERVER} | set(leaves(server_side.commands))


def test_every_command_is_looked_at():
    assert set(REFUSALS) | HARMLESS == ALL
    assert len(ALL) >= 35


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_wrong_usage_is_told_in_json(refused: Refused, path: tuple[str, ...]):
    code, output = refused(*path, "--no-such-option", "--json")
    error = json.loads(output)["error"]
    assert (code, error["exit_code"]) == (2, 2)
    assert "--no-such-option" in error["message"]


@pytest.mark.parametrize("path", sorted(REFUSALS), ids=" ".join)
def test_a_refusal_is_told_in_json_with_its_exit_code(refused: Refused, path: tuple[str, ...]):
    code, output = refused(*path, *REFUSALS[path], "--json")
    error = json.loads(output)["error"]
    assert error["message"]
    assert code == error["exit_code"]
    assert code == (4 if path in DOWN else 1), error


def test_without_json_a_refusal_is_no_output(refused: Refused):
    assert refused("config", "validate") == (1, "")
    assert refused("launch", "pi", "--dry-run", "--", "--json") == (4, "")
