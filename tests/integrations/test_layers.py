"""Where an agent's own layers are used, what the user keeps in them survives."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from omlx.integrations import codex, copilot, hermes, kilo, openclaw, opencode, qwen
from omlx.integrations.spec import Refusal, Surroundings, Target


@pytest.mark.parametrize(("module", "variable"), [(opencode, "OPENCODE_CONFIG_CONTENT"), (kilo, "KILO_CONFIG_CONTENT")])
def test_opencode_and_kilo_keep_the_inline_configuration_that_is_there(
    target: Target, surroundings: Surroundings, module: ModuleType, variable: str
):
    own = {"theme": "mine", "model": "foreign/x", "provider": {"foreign": {"name": "f"}, "omlx": {"old": True}}}
    wiring = module.wire(target, replace(surroundings, environ={variable: json.dumps(own)}))
    config = json.loads(wiring.environment[variable])
    assert (config["theme"], config["model"], config["small_model"]) == ("mine", "omlx/qwen3-coder:30b", "omlx/small")
    assert config["provider"]["foreign"] == {"name": "f"}
    assert config["provider"]["omlx"]["options"]["apiKey"] == "{env:OMLX_API_KEY}"
    assert config["provider"]["omlx"]["models"]["small"]["limit"] == {"context": 65_536, "output": 16_384}


def test_codex_overrides_are_toml_and_the_catalog_has_every_model(target: Target, surroundings: Surroundings):
    wiring = codex.wire(target, surroundings)
    overrides = [wiring.arguments[index + 1] for index, part in enumerate(wiring.arguments) if part == "-c"]
    config = tomllib.loads("\n".join(overrides))
    assert config["model_providers"]["omlx"]["base_url"] == "http://127.0.0.1:8123/v1"
    assert config["model_providers"]["omlx"]["env_key"] == "OMLX_API_KEY"
    assert config["model_catalog_json"] == str(wiring.files[0].path)
    models = json.loads(wiring.files[0].text)["models"]
    assert [(model["slug"], model["context_window"], model["apply_patch_tool_type"]) for model in models] == [
        ("qwen3-coder:30b", 131_072, "freeform"),
        ("small", 65_536, "freeform"),
    ]


def test_openclaw_includes_the_users_own_file(target: Target, surroundings: Surroundings):
    own = surroundings.home / ".openclaw" / "openclaw.json"
    files = {own: "{}"}
    wiring = openclaw.wire(target, replace(surroundings, read=files.get, environ={"OPENCLAW_INCLUDE_ROOTS": "/other"}))
    assert json.loads(wiring.files[0].text)["$include"] == [str(own)]
    assert wiring.environment["OPENCLAW_INCLUDE_ROOTS"] == f"/other:{own.parent}"
    assert "OPENCLAW_STATE_DIR" not in wiring.environment


def test_openclaw_without_a_file_of_the_users_includes_none(target: Target, surroundings: Surroundings):
    assert "$include" not in json.loads(openclaw.wire(target, surroundings).files[0].text)


def test_hermes_routes_every_task_to_the_server(target: Target, surroundings: Surroundings):
    wiring = hermes.wire(target, surroundings)
    assert wiring.environment == {"HERMES_MANAGED_DIR": str(wiring.files[0].path.parent)}
    config = json.loads(wiring.files[0].text)
    routes = [config["model"], config["delegation"], *config["auxiliary"].values()]
    assert {route["base_url"] for route in routes} == {"http://127.0.0.1:8123/v1"}
    assert {route["provider"] for route in routes} == {"omlx"}
    assert config["auxiliary"]["compression"]["model"] == "small"
    assert (config["fallback_providers"], config["fallback_model"]) == ([], {})


def test_hermes_does_not_displace_an_administrator(target: Target, surroundings: Surroundings):
    files = {Path("/etc/hermes/config.yaml"): "model: theirs"}
    with pytest.raises(Refusal, match="/etc/hermes"):
        hermes.wire(target, replace(surroundings, read=files.get))


def test_qwen_takes_the_real_system_settings_in(target: Target, surroundings: Surroundings):
    files = {Path("/etc/qwen-code/settings.json"): '{"privacy": {"x": 1}, "tools": {"y": 2}}'}
    settings = json.loads(qwen.wire(target, replace(surroundings, read=files.get)).files[0].text)
    assert settings["tools"] == {"y": 2}
    assert settings["privacy"] == {"x": 1, "usageStatisticsEnabled": False}
    assert [model["envKey"] for model in settings["modelProviders"]["openai"]] == ["OMLX_API_KEY"] * 2


def test_copilot_gets_the_prompts_share_of_the_window(target: Target, surroundings: Surroundings):
    environment = copilot.wire(target, surroundings).environment
    assert environment["COPILOT_PROVIDER_MAX_PROMPT_TOKENS"] == str(131_072 - 32_000)
    assert environment["COPILOT_PROVIDER_MAX_OUTPUT_TOKENS"] == "32000"
