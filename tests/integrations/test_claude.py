"""Claude Code's own terms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.integrations.claude import INTEGRATION, edits, overrides, wire
from omlx.integrations.spec import Model, Refusal, Surroundings, Target, Wiring


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


def test_sub_agents_and_workflows_get_the_served_model_whatever_the_user_set(
    target: Target, surroundings: Surroundings
):
    foreign = dict.fromkeys(("CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_WORKFLOW_SUBAGENT_MODEL"), "claude-foreign")
    wiring = wire(target, replace(surroundings, environ={**foreign, "CLAUDE_CODE_SUBAGENT_MODEL_FORCE": "1"}))
    for name in foreign:
        assert settings(wiring)["env"][name] == wiring.environment[name] == "qwen3-coder:30b"
    assert settings(wiring)["env"]["CLAUDE_CODE_SUBAGENT_MODEL_FORCE"] == ""
    assert "CLAUDE_CODE_SUBAGENT_MODEL_FORCE" in INTEGRATION.unset


@pytest.mark.parametrize("name", ["fallbackModel", "advisorModel"])
def test_models_of_the_users_for_a_part_of_the_work_are_named(target: Target, surroundings: Surroundings, name: str):
    path = surroundings.home / ".claude" / "settings.json"
    for value in ("claude-foreign", ["opus", "small", "claude-foreign"]):
        files = {path: json.dumps({name: value})}
        warnings = wire(target, replace(surroundings, read=files.get)).warnings
        assert warnings == (f"{path} sets {name} to claude-foreign, which the server has not",)
    assert wire(target, replace(surroundings, read={path: json.dumps({name: "sonnet[1m]"})}.get)).warnings == ()


def test_a_model_in_the_body_that_the_user_adds_to_is_named(target: Target, surroundings: Surroundings):
    body = json.dumps({"model": "claude-foreign"})
    path = surroundings.home / ".claude" / "settings.json"
    files = {path: json.dumps({"env": {"CLAUDE_CODE_EXTRA_BODY": body}})}
    around = replace(surroundings, environ={"CLAUDE_CODE_EXTRA_BODY": body}, read=files.get)
    assert [line.partition(" with a model")[0] for line in wire(target, around).warnings] == [
        f"{path} sets env.CLAUDE_CODE_EXTRA_BODY",
        "this shell sets CLAUDE_CODE_EXTRA_BODY",
    ]


def test_agents_of_the_users_with_a_model_that_is_not_served_are_named(target: Target, surroundings: Surroundings):
    texts = {"a": "claude-foreign", "b": "haiku", "c": "small", "d": "inherit"}
    folder = surroundings.directory / ".claude"
    files = {folder / "agents" / f"{name}.md": f"---\nmodel: {model}\n---\n" for name, model in texts.items()}
    around = replace(surroundings, read=files.get, glob=lambda where, _: tuple(files) if where == folder else ())
    (warning,) = wire(target, around).warnings
    assert warning.startswith(f"{folder}/agents/a.md sets model to claude-foreign, so that agent goes there")


def test_wired_for_good_what_a_project_or_an_administrator_overrides_is_named(
    target: Target, surroundings: Surroundings
):
    local = surroundings.directory / ".claude" / "settings.local.json"
    managed = Path("/etc/claude-code/managed-settings.json")
    files = {
        local: '{"env": {"CLAUDE_CODE_SUBAGENT_MODEL": "claude-foreign", "CLAUDE_CODE_USE_VERTEX": "1"}, "model": "x"}',
        managed: '{"apiKeyHelper": "theirs"}',
    }
    assert overrides(target, replace(surroundings, read=files.get)) == (
        f"{local} sets env.CLAUDE_CODE_SUBAGENT_MODEL, which overrides omlx's",
        f"{local} sets env.CLAUDE_CODE_USE_VERTEX, which overrides omlx's",
        f"{managed} sets apiKeyHelper, which overrides omlx's",
    )
    at_home = replace(surroundings, read=files.get, directory=surroundings.home)
    own = {surroundings.home / ".claude" / "settings.json": files[local]}
    assert overrides(target, replace(at_home, read=own.get)) == ()


def test_the_window_is_that_of_the_smallest_tier(target: Target, surroundings: Surroundings):
    env = wire(target, surroundings).environment
    assert (env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"]) == ("65536", "16384")


def test_a_name_for_which_the_window_is_passed_over_is_told(target: Target, surroundings: Surroundings):
    model = Model("claude-distilled", 65_536, 16_384)
    named = replace(target, haiku=model, models=(*target.models, model))
    for warnings in (wire(named, surroundings).warnings, overrides(named, surroundings)):
        (warning,) = warnings
        assert "passes over the window of claude-distilled, 65,536 tokens" in warning
        assert "rename its folder" in warning
    assert wire(target, surroundings).warnings == ()


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
    ("value", "words"), [("gone.json", "no plain file"), ("{,}", "does not parse"), ("list.json", "no JSON")]
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


def test_wired_for_good_what_leads_elsewhere_in_the_users_settings_or_shell_is_emptied(
    target: Target, surroundings: Surroundings
):
    own = '{"env": {"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_API_KEY": "theirs", "FOO": "1"}}'
    path = surroundings.home / ".claude" / "settings.json"
    environ = {"OMLX_API_KEY": "k", "CLAUDE_CODE_USE_VERTEX": "1"}
    (edit,) = edits(target, replace(surroundings, read={path: own}.get, environ=environ))
    emptied = {path[-1] for path, value in edit.values if value == ""}
    assert emptied == {"CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "ANTHROPIC_API_KEY"}
    assert (("apiKeyHelper",), "printenv OMLX_API_KEY") in edit.values
