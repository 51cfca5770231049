"""Which agent sends a request: the one its key was made for, else the one that its User-Agent names."""

from __future__ import annotations

import re

_PRODUCT = re.compile(r"[A-Za-z0-9._/@-]{1,64}")
_AGENTS = {
    "claude-cli": "claude",
    "claude-code": "claude",
    "codex_cli_rs": "codex",
    "codex_exec": "codex",
    "codex_vscode": "codex",
    "github-copilot-cli": "copilot",
    "hermes-agent": "hermes",
    "kilo-code": "kilo",
    "qwencode": "qwen",
    "mistral-vibe": "vibe",
}
"""Agents whose User-Agent begins with another word than their name here."""


def agent_of(key_name: str, user_agent: str) -> str:
    """The agent's name, "" where nothing says one. Clients write their User-Agent: it is cut to a plain word."""
    if key_name:
        return key_name
    product = _PRODUCT.match(user_agent.strip())
    name = product.group().partition("/")[0].lower() if product else ""
    return _AGENTS.get(name, name)
