"""`omlx config` and the options of `omlx serve`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.server.__main__ import commands
from omlx.server.errors import SettingsError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMLX_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["config", *arguments], catch_exceptions=False)


def test_a_setting_is_set_shown_with_its_origin_and_unset(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert run("set", "server.port", "9000").output == "server.port is 9000, when the server starts the next time\n"
    assert run("set", "models.m.max_tokens", "5").output == "models.m.max_tokens is 5, from the next request on\n"
    monkeypatch.setenv("OMLX_HOST", "localhost")
    shown = run("show", "--origin").stdout
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in shown.splitlines()}
    assert lines["server.port"] == ["9000", f"{home}/settings.json:4"]
    assert lines["server.host"] == ['"localhost"', "environment OMLX_HOST"]
    assert lines["cache.enabled"] == ["true", "default"]
    as_json = json.loads(run("show", "--origin", "--json").stdout)
    assert as_json["server.port"] == {"value": 9000, "origin": "file", "place": f"{home}/settings.json:4"}
    assert run("get", "server.host").output == "localhost\n"
    assert run("unset", "server.port").output == "server.port is 8000 again, when the server starts the next time\n"
    assert run("unset", "server.port").output.startswith("server.port is not set in")
    assert json.loads((home / "settings.json").read_text()) == {"version": 1, "models": {"m": {"max_tokens": 5}}}


def test_a_variable_that_wins_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMLX_PORT", "1")
    assert "OMLX_PORT is set here, and wins" in run("set", "server.port", "2").stderr
    assert (home / "settings.json").exists()


def test_a_wrong_value_can_be_taken_out_and_changes_nothing_else(home: Path):
    path = home / "settings.json"
    path.write_text('{"server": {"port": "x"}}')
    with pytest.raises(SettingsError, match=r"omlx config unset server\.port"):
        run("validate")
    with pytest.raises(SettingsError, match=r"server\.port is 'x'"):
        run("set", "server.host", "localhost")
    run("unset", "server.port")
    assert run("validate").output == f"{path}: valid\n"


def test_the_schema_is_printed(home: Path):
    assert home.exists()
    assert json.loads(run("schema").output)["title"] == "omlx settings"


def test_an_import_says_what_it_took_and_what_not(home: Path):
    theirs = home / "theirs.json"
    theirs.write_text('{"version": "1.0", "server": {"port": 8123}, "auth": {"api_key": "k"}}')
    output = run("import", str(theirs)).output
    assert "server.port → server.port = 8123" in output
    assert "auth.api_key: keys never stand in settings; set OMLX_API_KEY" in output
    assert json.loads(run("get", "server.port").output) == 8123
    listed = json.loads(run("import", str(theirs), "--dry-run", "--json").output)
    assert listed["taken"] == [{"from": "server.port", "key": "server.port", "value": 8123}]


def test_an_option_of_serve_never_persists(home: Path):
    with pytest.raises(SettingsError, match=r"--host 0\.0\.0\.0 opens the server"):
        CliRunner().invoke(commands, ["serve", "--host", "0.0.0.0"], catch_exceptions=False)
    CliRunner().invoke(commands, ["serve", "--port", "9000", "--help"], catch_exceptions=False)
    assert list(home.iterdir()) == []


def test_changes_and_checks_are_printed_as_json_too(home: Path):
    assert json.loads(run("set", "server.port", "8001", "--json").output) == {"key": "server.port", "value": 8001}
    checked = json.loads(run("validate", "--json").output)
    assert checked == {"file": str(home / "settings.json"), "exists": True, "warnings": []}
    assert json.loads(run("unset", "server.port", "--json").output) == {"key": "server.port", "value": 8000}
    (home / "settings.json").write_text('{"server": {"prot": 1}}')
    assert "did you mean port?" in json.loads(run("validate", "--json").stdout)["warnings"][0]
