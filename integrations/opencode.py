"""opencode (npm `opencode-ai`), checked with 1.18.33.

Opencode merges the JSON in `OPENCODE_CONFIG_CONTENT` over the user's own files, and expands `{env:…}` in it. A title is
asked for beside the first turn, of `small_model`. Without `limit` it knows no window and compacts too late or for ever;
`timeout: false` keeps it from giving up on a slow prefill and asking again.
"""

from __future__ import annotations

from ._opencode_config import existing_file, file_edit, foreign_settings, inline_config, settings_above_the_users
from .spec import Edit, Integration, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "OPENCODE_CONFIG_CONTENT": inline_config(target, surroundings, "OPENCODE_CONFIG_CONTENT"),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }
    warnings = foreign_settings(surroundings, "opencode")
    return Wiring(surroundings.arguments, environment, warnings=warnings)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    return (file_edit(target, surroundings, existing_file(surroundings, "opencode")),)


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return settings_above_the_users(surroundings, "opencode")


INTEGRATION = Integration(
    name="opencode",
    title="opencode",
    executable="opencode",
    install="npm install -g opencode-ai",
    minimum_context=16_384,
    summary="inline configuration in `OPENCODE_CONFIG_CONTENT`, merged over the user's; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    other_places=(".opencode/bin/opencode",),
)
