"""Kilo (npm `@kilocode/cli`), checked with 7.7.7.

A fork of opencode with its configuration: `KILO_CONFIG_CONTENT` is merged over the user's own files, of which
kilo.json or kilo.jsonc is edited where it is wired for good. Its telemetry and its record of sessions are kept off the
network.
"""

from __future__ import annotations

from ._opencode_config import existing_file, file_edit, foreign_settings, inline_config, settings_above_the_users
from .spec import Edit, Integration, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "KILO_CONFIG_CONTENT": inline_config(target, surroundings, "KILO_CONFIG_CONTENT"),
        "KILO_DISABLE_AUTOUPDATE": "1",
        "KILO_DISABLE_MODELS_FETCH": "1",
        "KILO_DISABLE_SESSION_INGEST": "1",
        "KILO_TELEMETRY_LEVEL": "off",
    }
    warnings = foreign_settings(surroundings, "kilo")
    return Wiring(surroundings.arguments, environment, warnings=warnings)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    return (
        file_edit(target, surroundings, existing_file(surroundings, "kilo"), experimental={"openTelemetry": False}),
    )


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return settings_above_the_users(surroundings, "kilo")


INTEGRATION = Integration(
    name="kilo",
    title="Kilo",
    executable="kilo",
    install="npm install -g @kilocode/cli",
    minimum_context=16_384,
    summary="inline configuration in `KILO_CONFIG_CONTENT`, merged over the user's; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    user_agents=("kilo-code",),
)
