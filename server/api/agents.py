"""Which agent sends a request: the one its key was made for, else the one that its User-Agent names."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import msgspec

_PRODUCT = re.compile(r"[A-Za-z0-9._/@-]{1,64}")


class Agent(msgspec.Struct):
    """An agent as `omlx launch` knows it; in its User-Agent it goes by `user_agents`, where not by its name."""

    name: str
    title: str
    command: str
    install: str
    minimum_context: int
    summary: str
    sets: list[str]
    user_agents: list[str]

    @property
    def is_for_good(self) -> bool:
        """Whether it can't be wired for one run: its command changes its own settings file."""
        return self.command.startswith("omlx wire ")


@cache
def known_agents() -> tuple[Agent, ...]:
    """Those of templates/admin/agents.json, which is made from the integrations: the server knows none itself."""
    text = files("omlx.templates").joinpath("admin", "agents.json").read_bytes()
    return msgspec.json.decode(text, type=tuple[Agent, ...])


def agent_of(key_name: str, user_agent: str, launched: str = "") -> str:
    """The agent's name, "" where nothing says one. Clients write their User-Agent: it is cut to a plain word.

    `launched` was announced with the request's key. It ranks below an agent that names itself, since several may share
    a user's key, and above the name of a library that the agent is built on.
    """
    if key_name:
        return key_name
    product = _PRODUCT.match(user_agent.strip())
    name = product.group().partition("/")[0].lower() if product else ""
    return _names().get(name) or launched or name


@cache
def _names() -> dict[str, str]:
    """Each agent's name by what it calls itself."""
    return {word: agent.name for agent in known_agents() for word in (*agent.user_agents, agent.name)}
