"""Nothing of the user's under a name of variables, headers or keys is ever shown, whatever it is called."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import tomlkit
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from omlx.launcher.documents import Dialect
from omlx.launcher.journal import FileChange, secrets_of
from omlx.launcher.review import diff, mask
from omlx.launcher.sensitive import secret_values

SECRET = "zq7Xw-31_hunter2"
PATH = Path("/home/u/settings")


def shown(dialect: Dialect, before: str, after: str) -> str:
    old, new = before.encode(), after.encode()
    return diff([FileChange(PATH, old, new, secrets_of(PATH, dialect, old, new))])


def as_json(config: object) -> str:
    return json.dumps(config, indent=2)


def as_yaml(config: object) -> str:
    stream = io.StringIO()
    YAML().dump(config, stream)
    return stream.getvalue()


FORMATS = (("json", as_json), ("yaml", as_yaml), ("toml", tomlkit.dumps))
HARMLESS_ENDINGS = ("MODEL", "PROVIDER", "URL", "HOST", "ENDPOINT", "REGION")


@pytest.mark.parametrize(("dialect", "write"), FORMATS, ids=[name for name, _ in FORMATS])
@settings(max_examples=100, deadline=None)
@given(
    mapping=st.sampled_from(["env", "headers", "http_headers", "envVars", "environment"]),
    name=st.text("ABCDEFGHIJKLMNOPQRSTUVWXY_-", min_size=1, max_size=20),
    value=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=3, max_size=60),
    is_deep=st.booleans(),
)
def test_no_value_of_a_mapping_of_variables_or_headers_is_shown(dialect, write, mapping, name, value, is_deep):
    assume(not name.upper().endswith(HARMLESS_ENDINGS))
    secret = f"z7{value}"
    given_settings = {mapping: {name: secret, "other": f"{secret} {secret}"}}
    old, new = (
        {"mine": {"a": number, **given_settings}} if is_deep else {"a": number, **given_settings} for number in (1, 2)
    )
    text = shown(dialect, write(old), write(new))
    assert "z7" not in text
    assert "••••" in text


@pytest.mark.parametrize(
    "config",
    [
        {"env": {"AWS_BEARER_TOKEN_BEDROCK": SECRET}},
        {"env": {"ANTHROPIC_CUSTOM_HEADERS": f"X-Auth: {SECRET}\nX-Team: {SECRET}"}},
        {"env": {"SERPER_KEY": SECRET, "DB_PASS": SECRET, "PGPWD": SECRET, "PIN": 73_114}},
        {"env": {"SENTRY_DSN": f"https://{SECRET}@o1.ingest.example/5", "X_URL": f"https://h/?sig={SECRET}"}},
        {"mcp": {"x": {"headers": {"X-Api": SECRET}, "http_headers": {"X-Auth": SECRET}}}},
        {"GEMINI_KEY": SECRET, "cookie": f"sid={SECRET}"},
        {"apiKeyHelper": f"/x.sh --key={SECRET}"},
        {"hooks": [{"command": f"curl -H 'X-Auth: {SECRET}'"}], "theme": SECRET},
        {"extra": json.dumps({"apiKey": SECRET})},
    ],
    ids=lambda config: "-".join(config),
)
def test_no_secret_of_a_users_settings_is_shown(config: dict[str, object]):
    text = shown("json", as_json({"a": 1, **config}), as_json({"a": 2, **config}))
    assert SECRET not in text
    assert "73114" not in text
    plan = mask(json.dumps(config), secret_values(config, is_ours=True))
    assert "theme" in config or SECRET not in plan, "a plan is mostly omlx's own"


def test_a_diff_stays_readable():
    config = {
        "model": "anthropic/claude-foreign",
        "theme": "dark",
        "$schema": "https://opencode.ai/config.json",
        "max_tokens": 32_000,
        "env": {"ANTHROPIC_MODEL": "qwen3-coder:30b", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "DEBUG": "1"},
        "provider": {"far": {"npm": "@ai-sdk/openai-compatible", "apiKey": "{env:FAR_KEY}", "env_key": "FAR_KEY"}},
        "security": {"auth": {"selectedType": "openai"}},
        "API_TIMEOUT_MS": "3600000",
        "prompt": "Read the files first, then answer in two lines.",
        "model_catalog_json": "/home/u2x7k/.omlx/wired/codex/dc3634dde562/models.json",
        "approve": True,
    }
    assert list(secret_values(config)) == []


def test_a_short_secret_blots_out_no_name():
    before = as_json({"a": 1, "k": "b", "kiosk": {}, "apiKey": "k"})
    assert shown("json", before, before.replace('"a": 1', '"a": 2')).count("••••") == 1
