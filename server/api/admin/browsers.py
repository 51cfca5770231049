"""From which browser a session came, for its owner to tell it from others."""

from __future__ import annotations

from ..agents import agent_of

_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    *(("iPhone", "iOS"), ("iPad", "iPadOS"), ("Macintosh", "macOS")),
    *(("Android", "Android"), ("Windows", "Windows"), ("Linux", "Linux")),
)
"""The word in the User-Agent and the name; the first that is there counts, since each names later ones too."""


def browser_of(user_agent: str) -> str:
    """A browser and its system in words, such as "Firefox, macOS"; what `agent_of` says of everything else."""
    names = [name for mark, name in _BROWSERS if f"{mark}/" in user_agent]
    systems = [name for mark, name in _SYSTEMS if mark in user_agent]
    return ", ".join((names[0], *systems[:1])) if names else agent_of("", user_agent)
