"""Wiring that lasts, through the command: shown, agreed to, made, listed and undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx import integrations
from omlx.integrations import find, names
from omlx.integrations.spec import Edit, Model, Surroundings, Target
from omlx.launcher.cli import commands
from omlx.launcher.documents import Dialect, Value, read
from omlx.launcher.errors import StartFailed

from .fake_server import FakeServer

Run = Callable[..., Result]
WIRABLE = [name for name in names() if (agent := find(name)) is not None and agent.edits is not None]
TAKE_NO_NAME = {"aider", "claude_desktop", "cline"}
"""Their files could only hold a key itself: the user gives it to them another way."""
FILES = {
    "hermes": (
        ".hermes/config.yaml",
        "# mine\nmodel:\n  provider: openrouter  # paid\n  x: 1\nagent: {max_turns: 90}\ndelegation: {y: 2}\n",
    ),
    "opencode": (".config/opencode/opencode.jsonc", '{\n  // mine\n  "theme": "x", "model": "foreign/y",\n}\n'),
    "openclaw": (".openclaw/openclaw.json", "{ // mine\n  gateway: {port: 18789,},\n}\n"),
    "pi": (".pi/agent/models.json", '{"providers": {"mine": {"baseUrl": "http://x"}}}'),
    "codex_app": (".codex/config.toml", '# mine\nmodel = "gpt"\n'),
    "aider": (".aider.conf.yml", "# mine\nmodel: gpt  # paid\nread: [CONVENTIONS.md]\nmap-tokens: 1024\n"),
    "cline": (
        ".cline/data/settings/providers.json",
        '{"version": 1, "lastUsedProvider": "mine", "providers": {"mine": {"settings": {"provider": "x"}}}}',
    ),
    "copilot": (".copilot/providers.json", '{"providers": [{"name": "mine", "baseUrl": "http://x"}], "models": []}'),
    "goose": (
        ".config/goose/config.yaml",
        "# mine\nGOOSE_PROVIDER: openai  # paid\nextensions: {dev: {enabled: true}}\n",
    ),
    "kilo": (".config/kilo/kilo.jsonc", '{\n  // mine\n  "theme": "x", "model": "foreign/y",\n}\n'),
    "vibe": (
        ".vibe/config.toml",
        '# mine\nactive_model = "devstral" # paid\n\n[[providers]]\nname = "mine"\napi_base = "http://x"\n',
    ),
    "crush": (".config/crush/crush.json", '{"options": {"debug": "mine"}}'),
    "codex": (".codex/config.toml", '# mine\napproval_policy = "never"\n\n[tui]\ntheme = "x"\n'),
    "claude": (".claude/settings.json", '{\n\t"permissions": {"allow": ["Bash(ls)"]},\n\t"env": {"FOO": "1"}\n}'),
    "claude_desktop": ("Library/Application Support/Claude/claude_desktop_config.json", '{"mcpServers": {"mine": {}}}'),
    "qwen": (".qwen/settings.json", '{"ui": {"theme": "x"}} // mine\n'),
}
"""Files with what an agent's user would have in them; an agent that is not among these gets any text."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def omlx(home: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `omlx` in this process, with a home and a server of the test's own; keywords become variables."""
    server.serve_models({"id": "m", "max_model_len": 131_072})
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)

    def run(*arguments: str, **variables: str) -> Result:
        environ = {"HOME": str(home), "OMLX_URL": server.url, **variables}
        return CliRunner().invoke(commands, arguments, env=environ)

    return run


def files_of_the_user(home: Path) -> dict[str, str]:
    paths = (path for path in home.rglob("*") if path.is_file() and ".omlx" not in path.parts)
    return {str(path.relative_to(home)): path.read_text() for path in paths}


ANY_TEXT: dict[Dialect, str] = {
    "json": '{"own": {"word": "mine"}}\n',
    "jsonc": '{\n  // mine\n  "own": {"word": "x"}\n}\n',
    "json5": "{\n  // mine\n  own: {word: 'x'},\n}\n",
    "yaml": "# mine\nown:\n  word: x  # mine too\n",
    "toml": '# mine\n[own]\nword = "x"\n',
}


def file_of(name: str) -> tuple[str, str]:
    """A file of the user's that wiring this agent edits, below the home, and what stands in it."""
    if name in FILES:
        return FILES[name]
    agent = find(name)
    assert agent is not None
    assert agent.edits is not None
    model = Model("m", 131_072, 16_384)
    target = Target("http://x", model, model, model, model, (model,), "")
    nowhere = Surroundings({}, Path("/"), Path("/"), Path("/run"), (), lambda _: None, lambda *_: ())
    edit = next(edit for edit in agent.edits(target, nowhere) if isinstance(edit, Edit))
    return str(edit.path.relative_to("/")), ANY_TEXT[edit.dialect]


def put(home: Path, name: str) -> dict[str, str]:
    """Give the home this agent's file, with comments and values of the user's own."""
    path, text = file_of(name)
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_text(text)
    return files_of_the_user(home)


@pytest.mark.parametrize("name", WIRABLE)
def test_what_was_wired_is_listed_and_restored_to_the_byte(omlx: Run, home: Path, server: FakeServer, name: str):
    before = put(home, name)
    wired = omlx("wire", name, "--yes")
    assert wired.exit_code == 0, wired.stderr
    after = files_of_the_user(home)
    assert server.url in "".join(after.values())
    assert "is wired so already" in omlx("wire", name, "--yes").stderr
    assert files_of_the_user(home) == after
    listed = json.loads(omlx("wired", "--json").stdout)
    assert {entry["agent"] for entry in listed} == {name}
    assert len(omlx("wired").stdout.splitlines()) == 1 + len(listed)
    named = [line[2:] for line in omlx("wired", "--verbose").stdout.splitlines() if line.startswith("  ")]
    assert named == [value for entry in listed for value in entry["values"]]
    assert omlx("restore", name, "--yes").exit_code == 0
    assert files_of_the_user(home) == before
    assert omlx("wired").stderr == "Nothing is wired.\n"


@pytest.mark.parametrize("name", WIRABLE)
def test_nothing_that_the_user_had_is_gone_from_a_wired_file(omlx: Run, home: Path, name: str):
    path, text = file_of(name)
    put(home, name)
    assert omlx("wire", name, "--yes").exit_code == 0
    dialects: dict[str, Dialect] = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
    dialect = dialects.get(Path(path).suffix, "json5")
    after = (home / path).read_text()
    assert after != text
    assert places(read(dialect, text)) <= places(read(dialect, after))
    assert "mine" in after or "mine" not in text


def places(value: Value, path: str = "") -> set[str]:
    """The path of every value."""
    if not isinstance(value, dict):
        return {path}
    return {path}.union(*(places(below, f"{path}.{key}") for key, below in value.items()))


@pytest.mark.parametrize("name", WIRABLE)
def test_a_home_without_the_agents_file_is_empty_again_afterwards(omlx: Run, home: Path, name: str):
    assert omlx("wire", name, "--yes").exit_code == 0
    assert files_of_the_user(home) != {}
    assert omlx("restore", name, "--yes").exit_code == 0
    assert files_of_the_user(home) == {}


def test_a_folder_made_for_several_agents_goes_with_the_last(omlx: Run, home: Path):
    for name in ("crush", "opencode", "kilo"):
        assert omlx("wire", name, "--yes").exit_code == 0
    for name in ("crush", "kilo", "opencode"):
        assert (home / ".config").is_dir()
        assert omlx("restore", name, "--yes").exit_code == 0
    assert not (home / ".config").exists()


@pytest.mark.parametrize("name", [name for name in WIRABLE if name != "copilot"])
def test_the_key_is_named_and_never_written(omlx: Run, home: Path, name: str):
    done = omlx("wire", name, "--yes", OMLX_API_KEY="the-servers-own-key")
    assert done.exit_code == 0, done.stderr
    everything = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert "the-servers-own-key" not in "".join([*everything, done.stdout, done.stderr])
    assert "OMLX_API_KEY" in "".join(everything) or name in TAKE_NO_NAME


def test_copilot_whose_file_can_only_hold_a_key_is_not_wired_where_there_is_one(omlx: Run, home: Path):
    refused = omlx("wire", "copilot", "--yes", OMLX_API_KEY="the-servers-own-key")
    assert refused.exit_code == 1
    assert "can hold and cannot name; launch it instead" in refused.stderr
    assert files_of_the_user(home) == {}


def test_too_small_a_window_is_refused_with_the_wire_command_that_is_not(omlx: Run, home: Path, server: FakeServer):
    server.serve_models({"id": "tiny", "max_model_len": 8192}, {"id": "m", "max_model_len": 131_072})
    refused = omlx("wire", "hermes", "--model", "tiny", "--yes")
    assert "Use `omlx wire hermes --model m`" in refused.stderr
    assert files_of_the_user(home) == {}


def test_without_agreement_nothing_is_written(omlx: Run, home: Path):
    before = put(home, "hermes")
    refused = omlx("wire", "hermes")
    assert (refused.exit_code, "--yes" in refused.stderr) == (1, True)
    assert "+  provider: omlx" in refused.stdout
    assert omlx("wire", "hermes", "--dry-run").exit_code == 0
    assert files_of_the_user(home) == before


@pytest.mark.parametrize("name", WIRABLE)
def test_a_file_that_does_not_parse_is_refused_with_its_line_and_left(omlx: Run, home: Path, name: str):
    put(home, name)
    path, text = file_of(name)
    (home / path).write_text(f"{text}\n}}] = [\n")
    before = files_of_the_user(home)
    refused = omlx("wire", name, "--yes")
    assert refused.exit_code == 1
    assert f"{Path(path).name}, line" in refused.stderr
    assert files_of_the_user(home) == before
    assert omlx("wired").stderr == "Nothing is wired.\n"


def test_an_alias_of_ours_that_is_no_mapping_is_repaired_and_others_are_left(omlx: Run, home: Path):
    put(home, "hermes")
    with (home / ".hermes/config.yaml").open("a") as file:
        file.write("model_aliases:\n  omlx: broken\n  other: 5\n")
    assert omlx("wire", "hermes", "--yes").exit_code == 0
    value = read("yaml", (home / ".hermes/config.yaml").read_text())
    assert isinstance(value, dict)
    aliases = value["model_aliases"]
    assert isinstance(aliases, dict)
    assert aliases["other"] == 5
    assert isinstance(aliases["omlx"], dict)
    assert aliases["omlx"]["model"] == "m"


def test_entries_of_the_users_that_hermes_passes_over_are_named_with_their_line_and_left(omlx: Run, home: Path):
    path = home / ".hermes/config.yaml"
    path.parent.mkdir()
    own = """\
custom_providers:
  - name: fine
    base_url: http://a
  - name: nowhere
  - just-a-name
providers:
  fine: {request_timeout_seconds: 5}
  odd: http://b
model_aliases:
  # mine
  fine: {model: x}
  odd: 5
"""
    path.write_text(own)
    done = omlx("wire", "hermes", "--yes")
    assert done.exit_code == 0, done.stderr
    said = [line.partition("config.yaml, ")[2] for line in done.stderr.splitlines() if "is left as it is" in line]
    assert [line.partition(", so")[0] for line in said] == [
        "line 4, column 3: custom_providers[1] has no base_url",
        "line 5, column 3: custom_providers[2] is no mapping",
        "line 8, column 3: providers.odd is no mapping",
        "line 12, column 3: model_aliases.odd is no mapping",
    ]
    assert set(own.splitlines()) <= set(path.read_text().splitlines())


@pytest.mark.parametrize("name", ["delegation", "providers", "model_aliases"])
def test_what_stands_where_a_mapping_of_hermes_must_be_is_refused_with_its_line_and_left(
    omlx: Run, home: Path, name: str
):
    path = home / ".hermes/config.yaml"
    path.parent.mkdir()
    path.write_text(f"# mine\n\n{name}: a-word\n")
    refused = omlx("wire", "hermes", "--yes")
    assert refused.exit_code == 1
    assert f"config.yaml, line 3, column 1: {name} holds 'a-word'" in refused.stderr
    assert path.read_text() == f"# mine\n\n{name}: a-word\n"


@pytest.mark.parametrize("arguments", [("wire", "newcomer"), ("launch", "newcomer", "--persist", "--dry-run")])
def test_an_agent_without_a_file_of_settings_is_refused_before_a_server_is_looked_for(
    omlx: Run, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
):
    words = 'title="Newcomer", executable="new", install="x", minimum_context=1, summary="x", no_file="it keeps none"'
    module = f"from omlx.integrations.spec import Integration\nINTEGRATION = Integration('newcomer', {words})\n"
    monkeypatch.delitem(sys.modules, "omlx.integrations.newcomer", raising=False)
    (tmp_path / "newcomer.py").write_text(module)
    monkeypatch.setattr(integrations, "__path__", [*integrations.__path__, str(tmp_path)])
    refused = omlx(*arguments, OMLX_URL="http://127.0.0.1:9")
    assert refused.exit_code == 1
    assert "Newcomer cannot be wired for good: it keeps none; use `omlx launch newcomer`" in refused.stderr
    assert server.requests == []


def test_wiring_and_restoring_tell_programs_what_they_change(omlx: Run, home: Path):
    before = put(home, "hermes")
    path = str(home / ".hermes/config.yaml")
    for arguments, made in (("--dry-run",), False), (("--yes",), True):
        told = json.loads(omlx("wire", "hermes", "--json", *arguments).stdout)
        assert (told["agent"], told["made"], told["warnings"]) == ("hermes", made, [])
        assert [change["path"] for change in told["changes"]] == [path]
        assert "+  provider: omlx" in told["changes"][0]["diff"]
        assert (files_of_the_user(home) == before) is not made
    for arguments, made in (("--dry-run",), False), (("--yes",), True):
        told = json.loads(omlx("restore", "hermes", "--json", *arguments).stdout)
        assert (told["agent"], told["made"], told["kept"]) == ("hermes", made, [])
        assert "-  provider: omlx" in told["changes"][0]["diff"]
        assert (files_of_the_user(home) == before) is made
    assert json.loads(omlx("restore", "hermes", "--json", "--yes").stdout)["changes"] == []


@pytest.mark.parametrize("command", ["wire", "restore"])
def test_json_does_not_ask(omlx: Run, command: str):
    refused = omlx(command, "hermes", "--json")
    assert (refused.exit_code, "--yes or --dry-run" in refused.stdout) == (2, True), "a refusal is JSON too"
    assert json.loads(refused.stdout)


def test_a_server_that_is_started_to_be_asked_is_told_of(omlx: Run, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise StartFailed("it does not start here")

    monkeypatch.setattr("omlx.launcher.reach.start_server", refused)
    monkeypatch.setattr("omlx.launcher.address.DEFAULT_URL", "http://127.0.0.1:9")
    ended = omlx("wire", "pi", "--yes", OMLX_URL="")
    assert "no server runs, so one is started to be asked for its models" in ended.stderr
    assert "no server runs" not in omlx("wire", "pi", "--yes").stderr


def test_restoring_what_is_not_wired_says_so(omlx: Run):
    done = omlx("restore", "pi")
    assert (done.exit_code, done.stderr) == (0, "pi is not wired.\n")
    slip = omlx("restore", "clade")
    assert (slip.exit_code, "Did you mean 'claude'?" in slip.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [("wire", "pi"), ("launch", "pi", "--persist"), ("launch", "pi")])
def test_a_dry_run_of_either_kind_shows_what_is_known_where_no_server_runs(
    omlx: Run, home: Path, arguments: tuple[str, ...]
):
    state = {"pid": os.getpid(), "host": "127.0.0.1", "port": 9, "url": "http://127.0.0.1:9", "instance_id": "x"}
    (home / ".omlx" / "run").mkdir(parents=True)
    (home / ".omlx" / "run" / "server.json").write_text(json.dumps(state))
    before = files_of_the_user(home)
    told = omlx(*arguments, "--model", "m", "--dry-run", "--json", OMLX_URL="")
    assert told.exit_code == 0, told.stderr
    (warning,) = json.loads(told.stdout)["warnings"]
    assert warning.startswith("no server runs at http://127.0.0.1:9; one would be started, and it alone knows")
    assert bool(json.loads(told.stdout)["changes"]) == (arguments != ("launch", "pi"))
    assert files_of_the_user(home) == before
    assert omlx(*arguments, "--dry-run", OMLX_URL="http://127.0.0.1:9").exit_code == 4, "that one is not started"


@pytest.mark.usefixtures("server")
def test_a_plan_to_persist_is_one_json_document(omlx: Run, home: Path):
    before = files_of_the_user(home)
    told = json.loads(omlx("launch", "pi", "--persist", "--dry-run", "--json").stdout)
    assert [Path(change["path"]).name for change in told["changes"]] == ["models.json", "settings.json"]
    assert files_of_the_user(home) == before


def test_persist_wires_and_then_launches(omlx: Run, home: Path, server: FakeServer, fake_agent: Callable[[str], Path]):
    path = str(fake_agent("pi").parent)
    assert omlx("launch", "pi", "--persist", PATH=path).exit_code == 1
    # A process of its own, since it becomes the agent.
    command = [sys.executable, "-c", "from omlx.launcher.cli import main; main()", "launch", "pi", "--persist", "--yes"]
    environ = {"HOME": str(home), "PATH": path, "OMLX_URL": server.url}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert ".pi/agent/models.json" in files_of_the_user(home)


def test_leaves_keep_what_stands_beside_them():
    config = {"a": {"b": 1, "c": {}}, "d": {"e": {"f": 2}}, "g": [{"h": 3}]}
    edit = Edit.of(Path("x"), "json", config, whole=("d", "e"))
    assert edit.values == ((("a", "b"), 1), (("a", "c"), {}), (("d", "e"), {"f": 2}), (("g",), [{"h": 3}]))
    assert Edit.of(Path("x"), "json", {"a": 1}).values == ((("a",), 1),), "never the whole file"


def test_a_date_that_cline_writes_anew_is_still_ours(omlx: Run, home: Path):
    """A provider of which nothing else is left would make Cline forget all the others."""
    put(home, "cline")
    path = home / FILES["cline"][0]
    before = json.loads(path.read_text())
    assert omlx("wire", "cline", "--yes").exit_code == 0
    wired = json.loads(path.read_text())
    wired["providers"]["openai-compatible"]["updatedAt"] = "2026-11-25T22:38:07.058Z"
    path.write_text(json.dumps(wired, indent=2))
    assert omlx("restore", "cline", "--yes").exit_code == 0
    assert json.loads(path.read_text()) == before
