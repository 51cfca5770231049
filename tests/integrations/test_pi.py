"""Pi's own terms."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from omlx.integrations.pi import INTEGRATION, edits, overrides, wire
from omlx.integrations.spec import Model, Surroundings, Target
from omlx.launcher.errors import WindowTooSmall
from omlx.launcher.plan import check_window


def test_an_extension_registers_every_model(target: Target, surroundings: Surroundings):
    wiring = wire(target, surroundings)
    extension = wiring.files[0]
    assert wiring.arguments[:4] == ("-e", str(extension.path), "--model", "omlx/qwen3-coder:30b")
    head, _, rest = extension.text.partition('registerProvider("omlx", ')
    assert "getHttpIdleTimeoutMs = () => 3600000;" in head
    provider = json.loads(rest.removesuffix(");\n};\n"))
    assert (provider["baseUrl"], provider["apiKey"]) == ("http://127.0.0.1:8123/v1", "$OMLX_API_KEY")
    assert [
        (model["id"], model["contextWindow"], model["maxTokens"], model["reasoning"], model["input"])
        for model in provider["models"]
    ] == [("qwen3-coder:30b", 131_072, 32_000, True, ["text", "image"]), ("small", 65_536, 16_384, False, ["text"])]


def test_for_good_its_idle_timeout_is_an_hour_and_settings_that_rank_above_are_named(
    target: Target, surroundings: Surroundings
):
    _, settings = edits(target, surroundings)
    assert dict(settings.values)["httpIdleTimeoutMs",] == 3_600_000
    project = surroundings.directory / ".pi" / "settings.json"
    own = surroundings.home / ".pi/agent/settings.json"
    files = {project: '{"defaultModel": "x"}', own: '{"retry": {"provider": {"timeoutMs": 5}}}'}
    around = replace(surroundings, read=files.get)
    timeout = f"{own} sets retry.provider.timeoutMs, which overrides omlx's"
    assert wire(target, around).warnings == (timeout,)
    assert overrides(target, around) == (f"{project} sets defaultModel, which overrides omlx's", timeout)


def test_a_window_in_which_it_would_compact_on_and_on_is_refused(target: Target):
    small = Model("small", 32_768, 8_192)
    with pytest.raises(WindowTooSmall, match="Pi needs a window of 40,960 tokens; small has 32,768"):
        check_window(INTEGRATION, replace(target, haiku=small), force=False)
    assert check_window(INTEGRATION, target, force=False) == ()
