"""The `omlx` command as a whole: real processes, a fake server, a fake agent on PATH, a throw-away home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from omlx.launcher.cli import commands
from omlx.server.__main__ import commands as server_commands

from .fake_server import FakeServer, Reply, text_reply


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def omlx(tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `omlx` with a home, a PATH and a server of the test's own; keywords become variables.

    In a process of its own where it becomes another program.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, becomes: bool = False, **variables: str) -> Ended:
        environ = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin"), "OMLX_URL": server.url, **variables}
        if not becomes:
            result = CliRunner().invoke(commands, arguments, env=environ)
            return Ended(result.exit_code, result.stdout, result.stderr)
        command = [sys.executable, "-c", "from omlx.launcher.cli import main; main()", *arguments]
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_launch_becomes_the_agent_and_touches_only_our_own_folder(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path], tmp_path: Path
):
    fake_agent("pi")
    server.serve_models({"id": "m", "max_model_len": 65_536})
    done = omlx("launch", "pi", "--", "-p", "say hello", becomes=True)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] != ""
    assert [line for line in lines if line.startswith("argument")][-2:] == ["argument -p", "argument say hello"]
    assert [path for path in files_under(tmp_path) if not path.startswith(".omlx/")] == ["bin/pi"]


def test_the_key_comes_from_the_environment_and_stands_in_no_argument(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path]
):
    fake_agent("claude")
    server.serve_models({"id": "m", "max_model_len": 131_072})
    done = omlx("launch", "claude", becomes=True, OMLX_API_KEY="the-servers-own-key")
    assert "OMLX_API_KEY=the-servers-own-key" in done.stdout.splitlines()
    assert not [line for line in done.stdout.splitlines() if line.startswith("argument") and "own-key" in line]
    assert server.requests[-1].headers["authorization"] == "Bearer the-servers-own-key"


def test_the_last_model_is_used_again(omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path]):
    fake_agent("pi")
    server.serve_models({"id": "m", "max_model_len": 65_536}, {"id": "n", "max_model_len": 65_536})
    assert "choose one with --model" in omlx("launch", "pi").stderr
    assert "argument omlx/n" in omlx("launch", "pi", "--model", "n", becomes=True).stdout
    assert "argument omlx/n" in omlx("launch", "pi", becomes=True).stdout


def test_a_dry_run_prints_the_plan_without_the_key_and_writes_nothing(omlx: Run, server: FakeServer, tmp_path: Path):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    shown = omlx("launch", "claude", "--dry-run", OMLX_API_KEY="the-servers-own-key", ANTHROPIC_API_KEY="sk-real")
    assert shown.returncode == 0, shown.stderr
    assert "unset    ANTHROPIC_API_KEY" in shown.stdout
    plan = json.loads(omlx("launch", "claude", "--dry-run", "--json", OMLX_API_KEY="the-servers-own-key").stdout)
    assert (plan["model"], plan["command"][0]) == ("m", "claude")
    env = omlx("launch", "claude", "--print-env", OMLX_API_KEY="the-servers-own-key").stdout
    assert f"export ANTHROPIC_BASE_URL={server.url}" in env.splitlines()
    assert "own-key" not in shown.stdout + json.dumps(plan) + env
    assert "sk-real" not in shown.stdout
    assert files_under(tmp_path) == []


def test_a_small_window_is_refused_before_anything_is_written(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path], tmp_path: Path
):
    fake_agent("claude")
    server.serve_models({"id": "m", "max_model_len": 8192})
    refused = omlx("launch", "claude")
    assert refused.returncode == 1
    assert refused.stderr.startswith("omlx: Claude Code needs a window of 49,152 tokens; m has 8,192")
    assert files_under(tmp_path) == ["bin/claude"]
    assert omlx("launch", "claude", "--force", becomes=True).returncode == 7


def test_a_small_window_is_refused_before_the_model_is_waited_for(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path]
):
    fake_agent("claude")
    server.serve_models({"id": "m", "max_model_len": 8192})
    server.answers["/health"] = lambda _: Reply({"status": "loading", "loading": ["m"]})
    assert "needs a window" in omlx("launch", "claude").stderr
    assert [request.path for request in server.requests] == ["/health", "/v1/models"]


def test_the_model_is_loaded_and_the_agent_announced_with_its_own_key(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path]
):
    fake_agent("pi")
    server.serve_models({"id": "m", "max_model_len": 65_536})
    states = iter(["loading", "ready", "ready"])
    server.answers["/v1/launches"] = lambda _: Reply({"id": "abc", "state": "loading"})
    server.answers["/v1/launches/abc"] = lambda _: Reply({"id": "abc", "state": next(states), "num_requests": 1})
    done = omlx("launch", "pi", becomes=True)
    assert done.returncode == 7, done.stderr
    (announced,) = (each for each in server.requests if each.path == "/v1/launches")
    assert announced.body == {"agent": "pi", "model": "m"}
    (key,) = (line.partition("=")[2] for line in done.stdout.splitlines() if line.startswith("OMLX_API_KEY="))
    assert announced.headers["authorization"] == f"Bearer {key}"
    assert len([each for each in server.requests if each.path == "/v1/launches/abc"]) >= 2


def test_a_model_that_does_not_load_ends_the_launch(
    omlx: Run, server: FakeServer, fake_agent: Callable[[str], Path], tmp_path: Path
):
    fake_agent("pi")
    server.serve_models({"id": "m", "max_model_len": 65_536})
    server.answers["/v1/launches"] = lambda _: Reply({"id": "a", "state": "failed", "error": "the weights are cut off"})
    done = omlx("launch", "pi")
    assert (done.returncode, done.stderr) == (4, "omlx: the server could not load m: the weights are cut off\n")
    assert files_under(tmp_path) == ["bin/pi"]


def test_a_dry_run_without_a_server_shows_what_is_known_and_says_what_is_not(omlx: Run, tmp_path: Path):
    state = {"pid": os.getpid(), "host": "127.0.0.1", "port": 9, "url": "http://127.0.0.1:9", "instance_id": "x"}
    (tmp_path / ".omlx" / "run").mkdir(parents=True)
    (tmp_path / ".omlx" / "run" / "server.json").write_text(json.dumps(state))
    named = omlx("launch", "claude", "--model", "qwen", "--dry-run", OMLX_URL="")
    assert (named.returncode, named.stderr) == (0, "")
    assert "set      ANTHROPIC_MODEL=qwen" in named.stdout
    assert "warning  no server runs at http://127.0.0.1:9; one would be started" in named.stdout
    assert "the server does not say" not in named.stdout
    unnamed = json.loads(omlx("launch", "codex", "--dry-run", "--json", OMLX_URL="").stdout)
    assert unnamed["model"] == "MODEL"
    assert "MODEL stands for the model that would be chosen" in unnamed["warnings"][0]
    assert omlx("launch", "pi", "--dry-run", OMLX_URL="http://127.0.0.1:9").returncode == 4, "that one is not started"
    assert omlx("launch", "pi", "--print-env", OMLX_URL="").returncode == 4, "a shell would go on with a guess"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json"], "--json goes with --list or --dry-run"),
        (["--json", "--print-env"], "--json goes with --list or --dry-run"),
        (["--dry-run", "--print-env"], "give one of"),
        (["--persist", "--print-env"], "give one of them"),
        (["--list", "--dry-run"], "give one of"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(omlx: Run, server: FakeServer, options: list[str], words: str):
    done = omlx("launch", "pi", *options)
    assert (done.returncode, words in done.stderr + done.stdout) == (2, True), done.stderr
    assert server.requests == []


def test_an_option_of_the_agents_is_told_its_place(omlx: Run):
    done = omlx("launch", "claude", "-p", "hi")
    assert done.returncode == 2
    assert "The agent's own options stand after `--`: omlx launch AGENT -- -p" in done.stderr


def test_a_server_without_models_says_every_way_to_one(omlx: Run, server: FakeServer):
    server.serve_models()
    refused = omlx("launch", "claude", "--dry-run").stderr
    assert [way for way in ("omlx pull", "omlx import", "omlx serve --model-dir") if way not in refused] == []


def test_what_is_missing_is_told_with_its_remedy(omlx: Run, server: FakeServer):
    server.serve_models({"id": "m"})
    assert "npm install -g @earendil-works/pi-coding-agent" in omlx("launch", "pi").stderr
    assert "Did you mean 'claude'" in omlx("launch", "cloude").stderr
    assert "name one of these agents" in omlx("launch").stderr
    assert server.requests == []


def test_a_named_server_that_is_down_is_not_started(omlx: Run, fake_agent: Callable[[str], Path]):
    fake_agent("pi")
    done = omlx("launch", "pi", OMLX_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (4, "")
    assert "which OMLX_URL names" in done.stderr


def test_the_list_names_every_agent(omlx: Run, fake_agent: Callable[[str], Path]):
    fake_agent("pi")
    agents = json.loads(omlx("launch", "--list", "--json").stdout)
    assert {agent["name"]: agent["installed"] for agent in agents}["pi"] is True
    assert {agent["name"]: agent["installed"] for agent in agents}["claude"] is False
    assert "Claude Code" in omlx("launch", "--list").stdout


def test_an_app_is_not_installed_where_only_its_command_line_is(omlx: Run, fake_agent: Callable[[str], Path]):
    fake_agent("codex")
    listed = {agent["name"]: agent for agent in json.loads(omlx("launch", "--list", "--json").stdout)}
    assert listed["codex"]["installed"] is True
    assert listed["codex_app"]["installed"] is False
    assert "no `/Applications/Codex.app" in omlx("launch", "codex_app", "--persist").stderr or sys.platform == "linux"


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux is told; macOS has Homebrew, and the apps")
def test_linux_is_not_told_to_install_what_is_for_macos(omlx: Run):
    agents = json.loads(omlx("launch", "--list", "--json").stdout)
    lines = {agent["name"]: agent["install"] for agent in agents}
    assert [name for name, line in lines.items() if line and line.startswith("brew")] == []
    assert (lines["codex_app"], lines["claude_desktop"]) == (None, None)
    assert "not for this system" in omlx("launch", "--list").stdout
    assert "there is none for this system" in omlx("launch", "codex_app", "--persist").stderr
    assert "download_cli.sh" in omlx("launch", "goose").stderr


def test_status_says_what_is_served(omlx: Run, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 8192, "omlx": {"size_bytes": 250_000_000, "is_loaded": True}})
    assert "m      250.0 MB  8,192   yes" in omlx("status").stdout
    status = json.loads(omlx("status", "--json").stdout)
    assert (status["url"], status["status"], status["models"][0]["name"]) == (server.url, "ok", "m")
    assert omlx("status", "--url", "http://127.0.0.1:9").returncode == 4


@pytest.mark.parametrize("command", ["status", "ps"])
def test_without_a_server_the_one_that_the_settings_name_is_asked(omlx: Run, tmp_path: Path, command: str):
    settings = tmp_path / ".omlx" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"server": {"port": 9}}')
    down = omlx(command, OMLX_URL="")
    assert down.returncode == 4
    assert "http://127.0.0.1:9" in down.stderr
    assert "http://127.0.0.1:11" in omlx(command, OMLX_URL="", OMLX_PORT="11").stderr


def test_status_says_why_a_server_is_degraded(omlx: Run, server: FakeServer):
    server.serve_models({"id": "m"}, {"id": "n"}, {"id": "s"})
    health = {"status": "degraded", "failed": ["n"], "reasons": {"n": "its engine died 3 times in a row"}}
    health |= {"stalled": ["s"], "cache_trouble": {"m": "the disk of /cache is full"}}
    server.answers["/health"] = lambda _: Reply(health)
    shown = omlx("status").stdout
    for line in (
        "n failed: its engine died 3 times in a row",
        "s is stuck",
        "m keeps no prefixes on disk: the disk of",
    ):
        assert line in shown
    found = json.loads(omlx("status", "--json").stdout)
    assert (found["reasons"], found["cache_trouble"]) == (health["reasons"], health["cache_trouble"])


def test_ps_says_what_is_in_memory(omlx: Run, server: FakeServer):
    server.serve_models(
        {"id": "m", "omlx": {"size_bytes": 250_000_000, "is_loaded": True}}, {"id": "n"}, {"id": "idle"}
    )
    health = {"status": "degraded", "failed": ["n"], "reasons": {"n": "it is corrupt"}, "num_running": 2}
    health["engines"] = {"m": {"seconds_since_decode": 130.0}}
    server.answers["/health"] = lambda _: Reply(health)
    shown = omlx("ps").stdout
    assert "m      loaded  250.0 MB  2 min ago" in shown
    assert "n      failed  -         never       it is corrupt" in shown
    assert "idle" not in shown
    assert "2 running, 0 waiting" in shown
    found = json.loads(omlx("ps", "--json").stdout)
    assert [(model["name"], model["state"]) for model in found["models"]] == [("m", "loaded"), ("n", "failed")]


def test_stop_and_logs_say_when_there_is_nothing(omlx: Run):
    assert json.loads(omlx("stop", "--json").stdout) == {"stopped": False, "server": None}
    assert omlx("logs").returncode == 1


def test_probe_prints_a_row_for_each_question_and_ends_with_its_verdict(omlx: Run, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 4096})
    server.answers["/v1/chat/completions"] = lambda _: text_reply("Hello!", completion_tokens=3)
    done = omlx("probe")
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 8
    assert "✓ Hello!" in done.stdout
    assert done.stderr == ""
    probed = json.loads(omlx("probe", "--json").stdout)
    assert probed["outcome"] == "wrong"
    assert probed["probes"][0]["outcome"] == "ok"
    del server.answers["/v1/chat/completions"]
    assert omlx("probe").returncode == 4


@pytest.mark.parametrize("command", ["serve", "import", "config"])
def test_the_servers_commands_show_their_own_help(omlx: Run, command: str):
    done = omlx(command, "--help", becomes=True)
    assert done.returncode == 0, done.stderr
    assert f"Usage: omlx {command}" in done.stdout


def test_no_line_of_a_list_of_commands_is_cut_off(omlx: Run):
    for group in ([], ["key"], ["service"]):
        assert "..." not in omlx(*group, "--help").stdout.partition("Commands:")[2]
    for group in ("config", "cluster", "cache"):
        listed = CliRunner().invoke(server_commands, [group, "--help"]).stdout.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


def test_help_loads_nothing_that_is_slow():
    script = (
        "import sys\nsys.argv = ['omlx', '--help']\nfrom omlx.launcher.cli import main\n"
        "try: main()\nfinally: print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"httpx", "keyring", "rich", "msgspec", "mlx", "omlx.server", "litestar"})


def test_help_is_there_at_once():
    help_seconds = processor_seconds("from omlx.launcher.cli import main; main()", "--help")
    # A machine that is busy with other tests computes more slowly too: then what click alone takes is the measure.
    assert help_seconds < max(0.15, 2.5 * processor_seconds("import click"))


def processor_seconds(program: str, *arguments: str) -> float:
    """The least that some runs took of the processor."""
    seconds = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(used.ru_utime + used.ru_stime)
    return min(seconds)


def test_every_module_of_the_folder_is_the_command_of_its_name():
    assert {"launch", "import", "serve", "wire"} <= set(commands.commands)
    for name, command in commands.commands.items():
        assert (command.name, bool(command.short_help)) == (name, True)


def test_an_unknown_command_is_answered_with_the_nearest_one(omlx: Run):
    done = omlx("lunch")
    assert done.returncode == 2
    assert "launch" in done.stderr


def test_every_command_and_option_is_in_the_docs(checkout: Path):
    docs = (checkout / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, command in commands.commands.items():
        assert f"`omlx {name}" in docs
        options = [
            option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
        ]
        assert [option for option in options if f"`{option}" not in docs] == []
