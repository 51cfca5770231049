"""What of the user's own outranks wiring for good is beaten or named, by file and key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.integrations import (
    aider,
    cline,
    codex,
    copilot,
    crush,
    find,
    goose,
    hermes,
    kilo,
    names,
    opencode,
    qwen,
    vibe,
)
from omlx.integrations.spec import Edit, Integration, Surroundings, Target

from .test_layers import with_files

LASTING = {name: agent for name in names() if (agent := find(name)) is not None and agent.edits is not None}
KEY = "the-key"


def overrides(agent: Integration, target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return agent.overrides(target, surroundings) if agent.overrides is not None else ()


@pytest.mark.parametrize("agent", LASTING.values(), ids=LASTING)
def test_each_variable_that_a_launch_unsets_is_beaten_or_named(
    agent: Integration, target: Target, surroundings: Surroundings
):
    around = replace(surroundings, environ=dict.fromkeys(agent.unset, "foreign"))
    assert agent.edits is not None
    # Qwen Code takes a model's own URL and the settings' model first; goose's own provider has its URL.
    values = [value for edit in agent.edits(target, around) if isinstance(edit, Edit) for value in edit.values]
    beaten = {path[-1] for path, _ in values}
    said = " ".join(overrides(agent, target, around))
    beaten |= {"qwen": set(agent.unset), "goose": {"OPENAI_BASE_URL"}}.get(agent.name, set())
    assert [name for name in agent.unset if name not in beaten and f"sets {name}," not in said] == []


@pytest.mark.parametrize("agent", LASTING.values(), ids=LASTING)
def test_a_machine_without_settings_of_the_users_overrides_nothing(
    agent: Integration, target: Target, surroundings: Surroundings
):
    assert overrides(agent, target, surroundings) == ()


def said(agent: Integration, target: Target, surroundings: Surroundings, path: str, text: str) -> list[str]:
    """The keys of this file, below the home where it is relative, that are said to override ours."""
    around = with_files(surroundings, {path: text})
    lines = overrides(agent, target, around)
    head = f"{surroundings.home / path} sets "
    assert all(line.startswith(head) for line in lines), lines
    return [line.removeprefix(head).partition(",")[0] for line in lines]


@pytest.mark.parametrize(
    ("agent", "path", "text", "keys"),
    [
        (
            codex,
            "project/.codex/config.toml",
            'model = "x"\n[model_providers.omlx]\n',
            ["model", "model_providers.omlx"],
        ),
        (codex, "project/.codex/config.toml", "model_context_window = 5\n", ["model_context_window"]),
        (codex, "/etc/codex/managed_config.toml", 'model = "x"\n', ["model"]),
        (opencode, "project/opencode.json", '{"model": "x/y"}', ["model"]),
        (opencode, "/etc/opencode/opencode.json", '{"small_model": "x/y"}', ["small_model"]),
        (kilo, "project/.kilo/opencode.jsonc", '{"provider": {"omlx": {}}}', ["provider.omlx"]),
        (kilo, "project/.kilocode/kilo.json", '{"model": "kilo/auto"}', ["model"]),
        (copilot, "project/.github/copilot/settings.json", '{"model": "x"}', ["model"]),
        (crush, "project/.crush.json", '{"models": {"large": {}}}', ["models.large"]),
        (crush, ".local/share/crush/crush.json", '{"models": {"small": {}}}', ["models.small"]),
        (qwen, "project/.qwen/settings.json", '{"model": {"name": "x"}} // mine', ["model.name"]),
        (qwen, "/etc/qwen-code/settings.json", '{"fastModel": "x"}', ["fastModel"]),
        (hermes, "/etc/hermes/config.yaml", "model: {default: x}\n", ["model"]),
        (hermes, "/etc/hermes/config.yaml", "model: # theirs\n  default: x\nproviders:\n# none\nx: 1\n", ["model"]),
        (hermes, ".hermes/.env", "HERMES_INFERENCE_MODEL=x\n#HERMES_MODEL=y\n", ["HERMES_INFERENCE_MODEL"]),
        (hermes, ".hermes/.env", "OMLX_API_KEY=other\n", ["OMLX_API_KEY"]),
        (goose, ".config/goose/config.yaml", "GOOSE_LEAD_MODEL: x\n# GOOSE_PLANNER_MODEL: y\n", ["GOOSE_LEAD_MODEL"]),
        (vibe, "project/.vibe/config.toml", 'active_model = "x"\n', ["active_model"]),
        (vibe, ".vibe/config.toml", 'allowed_models = ["x"]\n', ["allowed_models"]),
        (vibe, ".vibe/config.toml", '[vision_model]\nname = "y"\n', ["vision_model"]),
        (vibe, ".vibe/agents/plan.toml", 'active_model = "x"\n', ["active_model"]),
        (vibe, ".vibe/.env", "export VIBE_ACTIVE_MODEL=x\n", ["VIBE_ACTIVE_MODEL"]),
        (aider, "project/.aider.conf.yml", "weak-model: x\nread: y\n", ["weak-model"]),
        (aider, "project/.env", "AIDER_MODEL=x\nOTHER=z\n", ["AIDER_MODEL"]),
        (aider, ".env", "AIDER_OPENAI_API_KEY=y\n", ["AIDER_OPENAI_API_KEY"]),
    ],
)
def test_what_outranks_the_users_file_is_named(
    target: Target, surroundings: Surroundings, agent, path: str, text: str, keys: list[str]
):
    assert said(agent.INTEGRATION, target, surroundings, path, text) == keys


def test_a_configuration_in_a_variable_is_named(target: Target, surroundings: Surroundings):
    around = replace(surroundings, environ={"KILO_CONFIG_CONTENT": json.dumps({"model": "x/y"})})
    (line,) = overrides(kilo.INTEGRATION, target, around)
    assert line == "this shell sets model in KILO_CONFIG_CONTENT, which overrides omlx's"


@pytest.mark.parametrize(("agent", "title"), [(aider.INTEGRATION, "aider"), (cline.INTEGRATION, "Cline")])
def test_an_agent_that_reads_a_key_from_one_variable_alone_says_which(
    target: Target, surroundings: Surroundings, agent: Integration, title: str
):
    around = replace(surroundings, environ={"OMLX_API_KEY": KEY})
    assert overrides(agent, target, around) == (
        f"{title} takes the key from OPENAI_API_KEY alone: set it to that of OMLX_API_KEY where {title} starts",
    )
    both = replace(surroundings, environ={"OMLX_API_KEY": KEY, "OPENAI_API_KEY": KEY})
    assert overrides(agent, target, both) == ()


@pytest.mark.parametrize(
    ("agent", "path", "text"),
    [
        (goose, ".config/goose/config.yaml", "GOOSE_LEAD_PROVIDER: x\n"),
        (hermes, ".hermes/.env", "HERMES_INFERENCE_MODEL=x\n"),
        (vibe, ".vibe/agents/plan.toml", 'active_model = "x"\n'),
        (aider, ".env", "AIDER_OPENAI_API_KEY=x\n"),
        (opencode, "/etc/opencode/opencode.json", '{"model": "x/y"}'),
        (qwen, ".qwen/agents/x/review.md", "---\nmodel: foreign\n---\n"),
        (copilot, "project/.github/agents/x/review.md", "---\nmodel: foreign\n---\n"),
    ],
)
def test_what_a_launch_cannot_beat_is_named(target: Target, surroundings: Surroundings, agent, path: str, text: str):
    (line,) = agent.wire(target, with_files(surroundings, {path: text})).warnings
    assert line.startswith(f"{surroundings.home / Path(path)} sets ")
