"""What the user keeps in an agent's settings may come into a plan, and never out of it in clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from omlx.integrations import find, names
from omlx.integrations.spec import Integration, Surroundings, Target
from omlx.launcher.plan import LaunchPlan, make_plan
from omlx.launcher.showing_plan import plan_json, plan_shell, plan_text

PER_RUN = {name: agent for name in names() if (agent := find(name)) is not None and agent.wire is not None}
SECRETS = (
    "ghp_aVerySecretValueOfTheUser12",
    "sk-ant-aVerySecretValueOfTheUser",
    "aVerySecretBearerValue",
    "aVerySecretPassword",
    "aVerySecretPlainValue",
    "aVerySecretNestedValue",
)
CONFIG = json.dumps(
    {
        "env": {"GITHUB_TOKEN": SECRETS[0], "X": SECRETS[1], "DATABASE": f"postgres://me:{SECRETS[3]}@db/x"},
        "mcp": {"mine": {"headers": {"Authorization": f"Bearer {SECRETS[2]}"}, "token": [SECRETS[4]]}},
        "extra": json.dumps({"apiKey": SECRETS[5]}),
    }
)
ARGUMENTS = (
    "--settings",
    "mine.json",
    "--api-key",
    SECRETS[4],
    f"--token={SECRETS[0]}",
    "-c",
    f'x.api_key="{SECRETS[1]}"',
)
VARIABLES = ("OPENCODE_CONFIG_CONTENT", "KILO_CONFIG_CONTENT", "VIBE_PROVIDERS", "HERMES_CONFIG")


def plan_with_secrets(agent: Integration, target: Target, surroundings: Surroundings) -> LaunchPlan:
    """The plan where every file there is, every variable with a configuration and the arguments hold secrets."""
    machine = replace(
        surroundings,
        environ=dict.fromkeys(VARIABLES, CONFIG),
        arguments=ARGUMENTS,
        read=lambda path: None if path.parts[:3] == ("/", "etc", "hermes") else CONFIG,
    )
    return make_plan(agent, target, machine)


def shell(plan: LaunchPlan) -> str:
    return plan_shell(plan, has_key=True, is_key_in_shell=True)


@pytest.mark.parametrize("shown", [plan_text, plan_json, shell], ids=["text", "json", "shell"])
@pytest.mark.parametrize("agent", PER_RUN.values(), ids=PER_RUN)
def test_no_output_of_a_plan_holds_a_secret(
    agent: Integration, shown: Callable[[LaunchPlan], str], target: Target, surroundings: Surroundings
):
    text = shown(plan_with_secrets(agent, target, surroundings))
    assert [secret for secret in (*SECRETS, target.api_key) if secret in text] == []
    assert "••••" in text


@pytest.mark.parametrize("agent", PER_RUN.values(), ids=PER_RUN)
def test_a_plan_without_secrets_is_shown_as_it_is(agent: Integration, target: Target, surroundings: Surroundings):
    plan = make_plan(agent, target, surroundings)
    shown = json.loads(plan_json(plan))
    keys = {name for name, value in plan.environment.items() if value == target.api_key}
    assert shown["command"] == [plan.executable, *plan.arguments]
    assert shown["environment"] == {**plan.environment, **dict.fromkeys(keys, "••••")}
    assert [file["text"] for file in shown["files"]] == [file.text for file in plan.files]


def test_a_variable_with_a_secret_is_no_line_that_a_shell_would_run(target: Target, surroundings: Surroundings):
    lines = shell(plan_with_secrets(PER_RUN["opencode"], target, surroundings)).splitlines()
    (line,) = [line for line in lines if "OPENCODE_CONFIG_CONTENT" in line]
    assert line.startswith("# holds a secret of yours: export")
