"""`omlx chat`, `omlx bench` and `omlx completion`, against a fake server and a throw-away home."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from omlx.launcher.cli import commands
from omlx.launcher.talking import Screen, Talk, converse

from .fake_server import FakeServer, running, text_reply

Run = Callable[..., Result]


def set_to_talk(server: FakeServer) -> None:
    server.serve_models({"id": "m", "max_model_len": 12_000})
    server.answers["/v1/chat/completions"] = lambda _: text_reply(
        "Hel\x1b[2Jlo", prompt_tokens=5000, completion_tokens=3
    )


@pytest.fixture
def run(server: FakeServer, tmp_path: Path) -> Run:
    set_to_talk(server)

    def run_command(*arguments: str, **variables: str) -> Result:
        environ = {
            "HOME": str(tmp_path),
            "OMLX_URL": server.url,
            "XDG_DATA_HOME": "",
            "XDG_CONFIG_HOME": "",
            **variables,
        }
        return CliRunner().invoke(commands, arguments, env=environ, input=variables.get("piped"))

    return run_command


def test_an_answer_is_printed_without_what_would_steer_the_terminal(run: Run, server: FakeServer):
    assert run("chat", "hi", "--system", "be brief").stdout == "Hel[2Jlo\n"
    assert server.requests[-1].body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]
    assert json.loads(run("chat", "--json", piped="hi there").stdout)["completion_tokens"] == 3
    assert run("chat").exit_code == 2


def test_thinking_is_set_apart():
    shown = io.StringIO()
    screen = Screen(shown, coloured=False)
    for text, reasoning in (("", "let me"), ("", " see"), ("Yes", ""), (".", "")):
        screen.show(text, reasoning)
    screen.end()
    assert shown.getvalue() == "(thinking) let me see (done)\nYes.\n"


def test_a_new_conversation_is_confirmed_and_forgets_the_old_one(server: FakeServer):
    set_to_talk(server)
    typed = iter(["hi", "/new", "again"])

    def read(_: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    shown = io.StringIO()
    with httpx.Client(base_url=server.url) as http:
        converse(Talk(http, "m", None), Screen(shown, coloured=False), read)
    assert "A new conversation.\n" in shown.getvalue()
    assert server.requests[-1].body["messages"] == [{"role": "user", "content": "again"}]


def test_bench_measures_streams_and_prompts_that_fit(run: Run, server: FakeServer):
    done = run("bench", "--concurrency", "2", "--max-context", "20000", "--json")
    (measured,) = json.loads(done.stdout)
    assert (measured["url"], measured["model"]) == (server.url, "m")
    rows = measured["rows"]
    assert [(row["kind"], row["error"]) for row in rows] == [
        ("throughput", ""),
        ("context", ""),
        ("context", ""),
        ("context", "the window has 12,000"),
    ]
    assert rows[1]["prefill_rate"] > 0
    table = run("bench", "--max-context", "0").stdout.splitlines()
    assert [line.split()[:2] for line in table[2:]] == [["1", "stream"], ["4", "streams"], ["8", "streams"]]


def test_bench_compares_two_endpoints_once_both_have_answered(run: Run, server: FakeServer):
    with running() as other:
        set_to_talk(other)
        both = json.loads(run("bench", "--max-context", "0", "--compare", other.url, "--json").stdout)
        table = run("bench", "--max-context", "0", "--compare", other.url).stdout
    assert [each["url"] for each in both] == [server.url, other.url]
    assert [len(each["rows"]) for each in both] == [3, 3]
    assert f"m at {other.url}\n" in table
    asked = len(server.requests)
    gone = run("bench", "--max-context", "0", "--compare", other.url)
    assert (gone.exit_code, gone.stdout) == (4, "")
    assert not any(request.body for request in server.requests[asked:]), "nothing is measured in vain"


def test_bench_compares_nothing_with_itself(run: Run, server: FakeServer):
    for same in (server.url, server.url.replace("127.0.0.1", "localhost"), f"{server.url}/v1/"):
        refused = run("bench", "--compare", same)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "would be compared with itself" in refused.stderr
    assert run("bench", "--compare-model", "m").exit_code == 2


def test_completion_is_installed_with_one_command(run: Run, tmp_path: Path):
    assert "bash-completion/completions/omlx" in run("completion", SHELL="/bin/bash").stdout
    assert "_OMLX_COMPLETE" in (tmp_path / ".local/share/bash-completion/completions/omlx").read_text()
    (tmp_path / ".zshrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        assert run("completion", "zsh").exit_code == 0
    lines = (tmp_path / ".zshrc").read_text().splitlines()
    assert lines[0] == "alias ll='ls -l'"
    assert len(lines) == 2
    assert "omlx" in run("completion", "fish", "--print").stdout
    assert run("completion", SHELL="/bin/tcsh").exit_code == 1
