"""opencode (npm `opencode-ai`), checked with 1.18.33.

Opencode merges the JSON in `OPENCODE_CONFIG_CONTENT` over the user's own files, and expands `{env:…}` in it. A title is
asked for beside the first turn, of `small_model`. Without `limit` it knows no window and compacts too late or for ever;
`timeout: false` keeps it from giving up on a slow prefill and asking again.
"""

from __future__ import annotations

from ._opencode_config import file_edit, foreign_settings, inline_config
from .spec import Edit, Integration, Surroundings, Target, Wiring


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = {
        "OPENCODE_CONFIG_CONTENT": inline_config(target, surroundings, "OPENCODE_CONFIG_CONTENT"),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }
    warnings = foreign_settings(surroundings, "opencode", "OPENCODE_CONFIG")
    return Wiring(surroundings.arguments, environment, warnings=warnings)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    folder = surroundings.folder("XDG_CONFIG_HOME", ".config") / "opencode"
    names = ("opencode.jsonc", "opencode.json", "config.json")
    path = next((folder / name for name in names if surroundings.read(folder / name) is not None), folder / names[1])
    return (file_edit(target, surroundings, path),)


INTEGRATION = Integration(
    name="opencode",
    title="opencode",
    executable="opencode",
    install="npm install -g opencode-ai",
    minimum_context=16_384,
    summary="inline configuration in `OPENCODE_CONFIG_CONTENT`, merged over the user's; every served model is listed",
    wire=wire,
    edits=edits,
    other_places=(".opencode/bin/opencode",),
)
