"""docs/agents.md, made from the folder; `make agent-pages` writes it and what the admin pages show."""

from __future__ import annotations

import sys
from pathlib import Path

from omlx.integrations import find, names
from omlx.integrations.spec import Integration

from ..e2e.outside import as_markdown
from .agents_data import FILE, agents_json

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
_HEAD = """\
# Agents

`omlx launch AGENT` starts a coding agent wired to your server, for this run only: nothing of yours is changed.
The wiring gives the agent the server's address, a key, a model for every tier it has, and the window and output cap
that the server states. Approvals and sandboxes are never touched, and no model goes by a name that is not its own.

An agent keeps records of its own, such as its sessions, its history and what it notes on a first start, where it always
does.

The key stands in the agent's environment as `OMLX_API_KEY`, and the agent is told to read it there; no argument and no
file holds it. It is your own `OMLX_API_KEY` where that is set, else the agent's own key, which `omlx key new AGENT`
makes, else one that ends with the launch; where the server asks for none, a random word. A proxy in the environment is
bypassed for the way to the server.

This page is made from the modules in `integrations/`, and a test keeps it so.
"""
_OUTSIDE = f"""\
## Who is still asked outside

Telemetry, update checks and lists of models are switched off where an agent has a switch. The tests run the agents
against a name server that writes down who is asked for; nothing but this is left. In a terminal Codex, Pi and OpenClaw
were watched, the last one by hand:

{as_markdown()}
"""


def agents_page() -> str:
    agents = [found for name in names() if (found := find(name)) is not None]
    rows = [f"| `{agent.name}` | {agent.title} | {agent.minimum_context:,} | {agent.summary} |" for agent in agents]
    table = ["| name | agent | smallest window | wired by |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([_HEAD, *table, "", *(_section(agent) for agent in agents), _OUTSIDE])


def _section(agent: Integration) -> str:
    words = sys.modules[f"omlx.integrations.{agent.name}"].__doc__
    assert words is not None
    other = agent.install_line("linux")
    on_linux = (
        "; there is none for Linux" if other is None else f"; on Linux: `{other}`" if other != agent.install else ""
    )
    return f"## {agent.title}\n\nInstall: `{agent.install}`{on_linux}\n\n{words.strip()}\n"


if __name__ == "__main__":
    PAGE.write_text(agents_page(), encoding="utf-8")
    FILE.write_text(agents_json(), encoding="utf-8")
