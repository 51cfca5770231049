"""Claude Code's own terms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.integrations.claude import INTEGRATION, edits, wire
from omlx.integrations.spec import Refusal, Surroundings, Target, Wiring


def settings(wiring: Wiring) -> dict[str, dict[str, str]]:
    assert wiring.arguments[0] == "--settings"
    return json.loads(wiring.files[0].text if wiring.files else wiring.arguments[1])


def test_inline_settings_decide_where_requests_go(target: Target, surroundings: Surroundings):
    wiring = wire(target, surroundings)
    env = settings(wiring)["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8123"
    assert wiring.environment.items() <= env.items()


def test_every_tier_has_its_model(target: Target, surroundings: Surroundings):
    env = wire(target, surroundings).environment
    assert env["ANTHROPIC_MODEL"] == env["ANTHROPIC_DEFAULT_OPUS_MODEL"] == env["ANTHROPIC_DEFAULT_SONNET_MODEL"]
    assert env["ANTHROPIC_DEFAULT_FABLE_MODEL"] == "qwen3-coder:30b"
    assert env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == env["ANTHROPIC_SMALL_FAST_MODEL"] == "small"
    assert "CLAUDE_CODE_SUBAGENT_MODEL" not in env


def test_the_window_is_that_of_the_smallest_tier(target: Target, surroundings: Surroundings):
    env = wire(target, surroundings).environment
    assert (env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == ("65536", "16384")


def test_the_key_is_read_from_the_environment_and_real_ones_are_blanked(target: Target, surroundings: Surroundings):
    given = settings(wire(target, surroundings))
    assert given["apiKeyHelper"] == "printenv OMLX_API_KEY"
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"):
        assert given["env"][name] == ""
        assert name in INTEGRATION.unset


@pytest.mark.parametrize("form", [("--settings", "{}"), ("--settings={}",)])
def test_the_users_own_settings_are_taken_in(target: Target, surroundings: Surroundings, form: tuple[str, ...]):
    own = '{"theme": "dark", "env": {"FOO": "1", "ANTHROPIC_BASE_URL": "http://elsewhere"}}'
    arguments = (*(part.replace("{}", own) for part in form), "-p", "hi")
    wiring = wire(target, replace(surroundings, arguments=arguments))
    given = settings(wiring)
    assert given["theme"] == "dark"
    assert given["env"]["FOO"] == "1"
    assert given["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8123"
    assert wiring.arguments == ("--settings", str(wiring.files[0].path), "-p", "hi")


def test_the_users_settings_file_does_not_become_an_argument(target: Target, surroundings: Surroundings):
    files = {surroundings.directory / "mine.json": '{"env": {"TOKEN": "of-the-user"}}'}
    around = replace(surroundings, arguments=("--settings", "mine.json"), read=files.get)
    wiring = wire(target, around)
    assert "of-the-user" not in " ".join(wiring.arguments)
    assert settings(wiring)["env"]["TOKEN"] == "of-the-user"


@pytest.mark.parametrize(
    ("value", "words"), [("gone.json", "no file"), ("{,}", "does not parse"), ("list.json", "no JSON")]
)
def test_settings_that_cannot_be_read_are_refused(target: Target, surroundings: Surroundings, value: str, words: str):
    files = {surroundings.directory / "list.json": "[]"}
    with pytest.raises(Refusal, match=words):
        wire(target, replace(surroundings, arguments=("--settings", value), read=files.get))


def test_what_stands_after_a_double_dash_is_not_ours(target: Target, surroundings: Surroundings):
    wiring = wire(target, replace(surroundings, arguments=("--", "--settings", "x")))
    assert wiring.arguments[2:] == ("--", "--settings", "x")


def test_an_administrators_settings_that_override_ours_are_named(target: Target, surroundings: Surroundings):
    path = Path("/etc/claude-code/managed-settings.json")
    files = {path: '{"env": {"ANTHROPIC_BASE_URL": "https://gateway", "OTHER": "1"}}'}
    wiring = wire(target, replace(surroundings, read=files.get))
    assert wiring.warnings == (f"{path} sets env.ANTHROPIC_BASE_URL, which overrides omlx's",)


def test_wired_for_good_what_leads_elsewhere_in_the_users_settings_is_emptied(
    target: Target, surroundings: Surroundings
):
    own = '{"env": {"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_API_KEY": "theirs", "FOO": "1"}}'
    path = surroundings.home / ".claude" / "settings.json"
    (edit,) = edits(target, replace(surroundings, read={path: own}.get, environ={"OMLX_API_KEY": "k"}))
    emptied = {path for path, value in edit.values if value == ""}
    assert emptied == {("env", "CLAUDE_CODE_USE_BEDROCK"), ("env", "ANTHROPIC_API_KEY")}
    assert (("apiKeyHelper",), "printenv OMLX_API_KEY") in edit.values
