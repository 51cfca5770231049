"""Where an agent's own layers are used, what the user keeps in them survives."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from omlx.integrations import (
    aider,
    claude,
    claude_desktop,
    codex,
    copilot,
    crush,
    goose,
    hermes,
    kilo,
    openclaw,
    opencode,
    pi,
    qwen,
    vibe,
)
from omlx.integrations.spec import Edit, Refusal, Steps, Surroundings, Target


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


WINDOW, LIMIT = "model_context_window", "model_auto_compact_token_limit"


@pytest.mark.parametrize(
    ("path", "text", "beaten"),
    [
        (".codex/config.toml", f"{WINDOW} = 1000000\n", {WINDOW: 131_072}),
        (".codex/config.toml", f"{LIMIT} = 900000\n", {LIMIT: 117_964}),
        (".codex/config.toml", f"{LIMIT} = 50000\n", {}),
        (".codex/config.toml", f"{WINDOW} = 131072\n", {}),
        (".codex/config.toml", f"[profiles.big]\n{WINDOW} = 1000000\n", {WINDOW: 131_072}),
        (".codex/x/big.config.toml", f"{WINDOW} = 1000000\n", {WINDOW: 131_072}),
        ("project/.codex/config.toml", f"{WINDOW} = 1000000\n{LIMIT} = 900000\n", {WINDOW: 131_072, LIMIT: 117_964}),
    ],
)
def test_codex_beats_a_window_of_the_users_only_where_there_is_one(
    target: Target, surroundings: Surroundings, path: str, text: str, beaten: dict[str, int]
):
    around = with_files(surroundings, {path: text})
    overrides = {part for part in codex.wire(target, around).arguments if part.startswith((WINDOW, LIMIT))}
    assert overrides == {f"{key}={value}" for key, value in beaten.items()}
    lasting = lasting_of(target, around)
    assert {key: lasting[key,] for key in (WINDOW, LIMIT) if (key,) in lasting} == beaten


def lasting_of(target: Target, surroundings: Surroundings) -> dict[Steps, object]:
    _, edit = codex.edits(target, surroundings)
    assert isinstance(edit, Edit)
    return dict(edit.values)


def test_codex_keeps_the_plugins_that_the_user_has(target: Target, surroundings: Surroundings):
    around = with_files(surroundings, {".codex/config.toml": '[plugins."x@y"]\nenabled = true\n'})
    off = "features.plugins=false"
    assert off in codex.wire(target, surroundings).arguments
    assert off not in codex.wire(target, around).arguments
    lasting = lasting_of(target, surroundings)
    assert lasting["features", "plugins"] is False
    assert (lasting["analytics", "enabled"], lasting["check_for_update_on_startup",]) == (False, False)


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
    preset = config["moa"]["presets"][config["moa"]["default_preset"]]
    ours = {"provider": "omlx", "model": "qwen3-coder:30b"}
    assert [preset["aggregator"], *preset["reference_models"]] == [ours, ours]
    assert config["moa"]["active_preset"] == "", "a preset of the user's would be every turn's"
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
    assert settings["general"] == {"enableAutoUpdate": False}
    assert [model["envKey"] for model in settings["modelProviders"]["openai"]] == ["OMLX_API_KEY"] * 2


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("linux", "/etc/qwen-code"), ("darwin", "/Library/Application Support/QwenCode")],
)
def test_qwen_takes_in_the_system_settings_of_the_platform(
    target: Target, surroundings: Surroundings, platform: str, folder: str
):
    folders = ("/etc/qwen-code", "/Library/Application Support/QwenCode")
    files = {Path(each) / "settings.json": json.dumps({"from": each, "fastModel": "x"}) for each in folders}
    around = replace(surroundings, read=files.get, platform=platform)
    wiring = qwen.wire(target, around)
    assert json.loads(wiring.files[0].text)["from"] == folder
    assert wiring.environment["QWEN_CODE_SYSTEM_DEFAULTS_PATH"] == f"{folder}/system-defaults.json"
    assert qwen.overrides(target, around) == (f"{folder}/settings.json sets fastModel, which overrides omlx's",)


def test_copilot_gets_the_prompts_share_of_the_window(target: Target, surroundings: Surroundings):
    environment = copilot.wire(target, surroundings).environment
    assert environment["COPILOT_PROVIDER_MAX_PROMPT_TOKENS"] == str(131_072 - 32_000)
    assert environment["COPILOT_PROVIDER_MAX_OUTPUT_TOKENS"] == "32000"


def with_files(surroundings: Surroundings, files: dict[str, str]) -> Surroundings:
    """Paths below the home where they are relative."""
    known = {surroundings.home / path: text for path, text in files.items()}

    def glob(folder: Path, pattern: str) -> tuple[Path, ...]:
        return tuple(path for path in known if folder in path.parents and path.relative_to(folder).match(pattern))

    return replace(surroundings, read=known.get, glob=glob)


@pytest.mark.parametrize(("module", "name"), [(opencode, "opencode"), (kilo, "kilo")])
def test_opencode_names_the_agents_of_the_users_that_go_elsewhere(
    target: Target, surroundings: Surroundings, module: ModuleType, name: str
):
    own = """{ // mine
      "agent": {"plan": {"model": "foreign/x",}, "build": {"model": "omlx/m"}, "free": {"prompt": "// not a comment"}},
      "enabled_providers": ["foreign"],
    }"""
    project = '{"disabled_providers": ["omlx"]}'
    files = {f".config/{name}/{name}.jsonc": own, f"project/.{name}/{name}.json": project}
    warnings = module.wire(target, with_files(surroundings, files)).warnings
    folder = surroundings.home / ".config" / name / f"{name}.jsonc"
    assert warnings[:2] == (
        f"{folder} sets agent.plan.model to foreign/x, so that agent goes there and not to omlx",
        f"{folder} sets enabled_providers without 'omlx', which hides omlx's models",
    )
    assert "disabled_providers" in warnings[2]
    assert len(warnings) == 3


@pytest.mark.parametrize(("module", "name"), [(opencode, "opencode"), (kilo, "kilo")])
def test_opencode_names_the_markdown_agents_of_the_users_that_go_elsewhere(
    target: Target, surroundings: Surroundings, module: ModuleType, name: str
):
    files = {
        f".config/{name}/agent/x/review.md": "---\ndescription: reads\nmodel: 'foreign/x' # paid\n---\nRead it.\n",
        f"project/.{name}/agents/x/here.md": "---\r\nmodel: foreign/y\r\n---\r\n",
        f".{name}/mode/ours.md": "---\nmodel: omlx/m\n---\n",
        f".{name}/mode/none.md": "---\ndescription: x\n---\nmodel: foreign/z\n",
        "project/agent/x/other.md": "---\nmodel: foreign/z\n---\n",
    }
    warnings = module.wire(target, with_files(surroundings, files)).warnings
    assert warnings == (
        f"{surroundings.home}/.config/{name}/agent/x/review.md sets model to foreign/x, "
        "so that agent goes there and not to omlx",
        f"{surroundings.home}/project/.{name}/agents/x/here.md sets model to foreign/y, "
        "so that agent goes there and not to omlx",
    )


def test_openclaw_names_the_agents_of_the_users_that_go_elsewhere(target: Target, surroundings: Surroundings):
    own = """{ // mine
      agents: {
        "defaults": {model: 'foreign/is-overridden', "utilityModel": "foreign/small"},
        "entries": {"work": {"model": {primary: 'foreign/x', url: 'http://x'}}, "home": {"model": "omlx/m"}, no: {}},
        "list": [{"id": "a"}, {"id": "b", "model": "foreign/y"}, 5],
      },
    }"""
    warnings = openclaw.wire(target, with_files(surroundings, {".openclaw/openclaw.json": own})).warnings
    path = surroundings.home / ".openclaw/openclaw.json"
    assert warnings == (
        f"{path} sets agents.entries.work.model to foreign/x, so that goes there and not to omlx",
        f"{path} sets agents.list[1].model to foreign/y, so that goes there and not to omlx",
    )


OPENCLAW_ROLES = """{agents: {defaults: {
  model: {primary: "foreign/a", fallbacks: ["foreign/b"]},
  utilityModel: "foreign/c", subagents: {model: "foreign/d", maxConcurrent: 2}, compaction: {model: "foreign/e"},
  heartbeat: {model: "foreign/f"}, imageModel: {primary: "foreign/g"}, pdfModel: "foreign/h",
  decisionModel: "onnx/i", modelPolicy: {allow: ["anthropic/*"]},
}}}"""


def test_openclaw_gives_every_role_to_a_served_model(target: Target, surroundings: Surroundings):
    wiring = openclaw.wire(target, with_files(surroundings, {".openclaw/openclaw.json": OPENCLAW_ROLES}))
    main = "omlx/qwen3-coder:30b"
    # Texts and one more list item: an include replaces mappings by texts and adds lists up.
    assert json.loads(wiring.files[0].text)["agents"]["defaults"] == {
        "model": main,
        "utilityModel": "omlx/small",
        "subagents": {"model": main},
        "compaction": {"model": main},
        "heartbeat": {"model": main},
        "imageModel": main,
        "pdfModel": main,
        "modelPolicy": {"allow": ["omlx/*"]},
    }
    path = surroundings.home / ".openclaw/openclaw.json"
    assert wiring.warnings == (
        f"{path} sets agents.defaults.decisionModel to onnx/i, so that goes there and not to omlx",
    )


def test_openclaw_sees_with_a_served_model_or_says_that_it_goes_elsewhere(target: Target, surroundings: Surroundings):
    around = with_files(surroundings, {".openclaw/openclaw.json": '{agents: {defaults: {imageModel: "foreign/g"}}}'})
    blind = replace(target.haiku, vision=False)
    only = replace(target, model=blind, opus=blind, sonnet=blind, haiku=blind, models=(blind,))
    assert "imageModel" not in openclaw.wire(only, around).files[0].text
    assert "imageModel to foreign/g" in openclaw.wire(only, around).warnings[0]
    both = replace(only, models=(blind, target.model))
    assert json.loads(openclaw.wire(both, around).files[0].text)["agents"]["defaults"]["imageModel"] == (
        "omlx/qwen3-coder:30b"
    )


def test_openclaw_wired_for_good_names_the_roles_that_it_leaves(target: Target, surroundings: Surroundings):
    around = with_files(surroundings, {".openclaw/openclaw.json": OPENCLAW_ROLES})
    path = surroundings.home / ".openclaw/openclaw.json"
    roles = ("subagents.model", "compaction.model", "heartbeat.model", "imageModel", "pdfModel", "decisionModel")
    assert [line.split(" to ")[0] for line in openclaw.overrides(target, around)] == [
        *(f"{path} sets agents.defaults.{role}" for role in roles),
        f"{path} sets agents.defaults.modelPolicy.allow without 'omlx/*', so that another model is taken",
    ]
    assert dict(openclaw.edits(target, around)[0].values)["agents", "defaults", "utilityModel"] == "omlx/small"


def test_a_file_of_the_users_that_does_not_parse_is_the_agents_to_complain_of(
    target: Target, surroundings: Surroundings
):
    broken = with_files(surroundings, {".config/opencode/opencode.json": '{"agent": [}'})
    assert opencode.wire(target, broken).warnings == ()


def test_codex_names_what_an_administrator_overrides(target: Target, surroundings: Surroundings):
    managed = 'model = "gpt"\n[model_providers.omlx]\nbase_url = "x"\n[tui]\ntheme = "y"\n'
    warnings = codex.wire(target, with_files(surroundings, {"/etc/codex/managed_config.toml": managed})).warnings
    assert warnings == (
        "/etc/codex/managed_config.toml sets model, which overrides omlx's",
        "/etc/codex/managed_config.toml sets model_providers.omlx, which overrides omlx's",
    )
    broken = with_files(surroundings, {"/etc/codex/managed_config.toml": "model ="})
    assert "does not parse" in codex.wire(target, broken).warnings[0]


def test_claude_code_names_what_an_administrator_overrides(target: Target, surroundings: Surroundings):
    path = "/etc/claude-code/managed-settings.json"
    managed = {"env": {"ANTHROPIC_BASE_URL": "x", "FOO": "1"}, "apiKeyHelper": "theirs", "model": "opus"}
    warnings = claude.wire(target, with_files(surroundings, {path: json.dumps(managed)})).warnings
    named = ("env.ANTHROPIC_BASE_URL", "apiKeyHelper", "model")
    assert warnings == tuple(f"{path} sets {name}, which overrides omlx's" for name in named)


def test_claude_code_names_what_a_file_beside_an_administrators_overrides(target: Target, surroundings: Surroundings):
    path = "/etc/claude-code/managed-settings.d/10-gateway.json"
    warnings = claude.wire(target, with_files(surroundings, {path: '{"env": {"ANTHROPIC_MODEL": "x"}}'})).warnings
    assert warnings == (f"{path} sets env.ANTHROPIC_MODEL, which overrides omlx's",)


def test_claude_desktop_keeps_the_other_configurations_of_its_library(target: Target, surroundings: Surroundings):
    library = "Library/Application Support/Claude-3p/configLibrary/_meta.json"
    own = {"appliedId": "a", "entries": [{"id": "a", "name": "mine"}]}
    once = with_files(surroundings, {library: json.dumps(own)})
    *_, gateway, meta = claude_desktop.edits(target, once)
    applied = dict(meta.values)
    assert applied["entries",] == [{"id": "a", "name": "mine"}, {"id": applied["appliedId",], "name": "omlx"}]
    assert gateway.path.name == f"{applied['appliedId',]}.json"
    again = {"appliedId": applied["appliedId",], "entries": applied["entries",]}
    twice = with_files(surroundings, {library: json.dumps(again)})
    assert claude_desktop.edits(target, twice)[-1] == meta
    models: Any = dict(gateway.values)["inferenceModels",]
    assert [(model["name"], model["anthropicFamilyTier"]) for model in models] == [
        ("qwen3-coder:30b", "opus"),
        ("qwen3-coder:30b", "sonnet"),
        ("small", "haiku"),
    ]


@pytest.mark.parametrize(
    ("module", "switches"),
    [
        (opencode, {("autoupdate",): False}),
        (kilo, {("autoupdate",): False, ("experimental", "openTelemetry"): False}),
        (pi, {("enableInstallTelemetry",): False}),
        (qwen, {("privacy", "usageStatisticsEnabled"): False, ("general", "enableAutoUpdate"): False}),
        (goose, {("GOOSE_TELEMETRY_ENABLED",): False, ("GOOSE_FAST_MODEL",): "small"}),
        (vibe, {("enable_telemetry",): False, ("enable_update_checks",): False}),
        (aider, {("analytics",): False, ("check-update",): False}),
        (crush, {("options", "disable_metrics"): True, ("options", "disable_provider_auto_update"): True}),
    ],
)
def test_wiring_for_good_too_keeps_an_agent_from_calling_home(
    target: Target, surroundings: Surroundings, module: ModuleType, switches: dict[Steps, object]
):
    edits = [edit for edit in module.edits(target, surroundings) if isinstance(edit, Edit)]
    values = {path: value for edit in edits for path, value in edit.values}
    assert {path: values.get(path) for path in switches} == switches
