"""The hosts outside that agents still look up, each with the reason; docs/agents.md has the same list."""

from __future__ import annotations

from collections.abc import Mapping

STILL_ASKED: Mapping[str, Mapping[str, str]] = {
    "opencode": {
        "registry.npmjs.org": "fetches the types of its plugins into its own folder, once; it has no switch for that",
    },
    "kilo": {
        "api.kilo.ai": "lists the models of its own gateway; only leaving that provider out would end it",
    },
    "cline": {
        "data.cline.bot": "asks which of its new features are on; it has no switch for that",
        "otel.cline.bot": "sends how it is used; its one switch is a file of its own, so wiring for good ends it",
    },
    "hermes": {
        "pypi.org": "asks whether there is a newer Hermes; it has no switch for that",
        "github.com": "fetches `tirith`, its scanner of commands, once; a safety of yours that stays as it is",
    },
}
"""By agent, wired for one run."""
WIRED_FOR_GOOD: Mapping[str, Mapping[str, str]] = {
    "opencode": {"models.opencode.ai": "lists models; only a variable, `OPENCODE_DISABLE_MODELS_FETCH=1`, ends it"},
    "kilo": {"models.dev": "lists models; only a variable, `KILO_DISABLE_MODELS_FETCH=1`, ends it"},
}
"""What is asked beside that, where variables cannot be set."""
AT_A_TERMINAL: Mapping[str, Mapping[str, str]] = {
    "codex": {"raw.githubusercontent.com": "fetches an announcement for its first screen; it has no switch for that"},
    "openclaw": {"api.github.com": "fetches `fd`, which finds files for it, once, where there is none"},
}
"""What is asked beside that by the interface in a terminal."""


def allowed(agent: str, *, for_good: bool = False, at_a_terminal: bool = False) -> set[str]:
    more = ((WIRED_FOR_GOOD, for_good), (AT_A_TERMINAL, at_a_terminal))
    return {*STILL_ASKED.get(agent, {}), *(host for hosts, counts in more if counts for host in hosts.get(agent, {}))}


def as_markdown() -> str:
    lists = ((STILL_ASKED, "wired either way"), (WIRED_FOR_GOOD, "wired for good"), (AT_A_TERMINAL, "in a terminal"))
    rows = [
        f"| `{agent}` | {when} | `{host}` | {reason} |"
        for hosts, when in lists
        for agent, of_agent in hosts.items()
        for host, reason in of_agent.items()
    ]
    return "\n".join(["| agent | when | host | why |", "| --- | --- | --- | --- |", *rows])
