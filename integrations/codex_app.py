"""The Codex desktop app, which reads the same config.toml as the Codex in the terminal.

An app has no arguments for one run, so it is wired for good, and so is the Codex in the terminal with it, whose
`codex app` fetches and opens it. Start it from a shell that has `OMLX_API_KEY`, where the server wants a key.
"""

from __future__ import annotations

from .codex import edits, overrides
from .spec import Integration

INTEGRATION = Integration(
    name="codex_app",
    title="Codex desktop app",
    executable="/Applications/Codex.app/Contents/MacOS/Codex",
    install="npm install -g @openai/codex && codex app",
    linux_install=None,
    minimum_context=16_384,
    summary="for good only: config.toml and a generated model catalog",
    edits=edits,
    overrides=overrides,
    other_places=("Applications/Codex.app/Contents/MacOS/Codex",),
)
