"""OpenClaw's model roles: each agent of the user's, and the defaults for all, may send a part of the work elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ._options import lenient_object, object_at
from .spec import PROVIDER, Surroundings, Target

Role = tuple[str, ...]
_ROLES: tuple[Role, ...] = (
    ("model",),
    ("utilityModel",),
    ("subagents", "model"),
    ("compaction", "model"),
    ("heartbeat", "model"),
    ("imageModel",),
    ("pdfModel",),
    ("decisionModel",),
)
_ALLOWED = ("modelPolicy", "allow")


def own_file(surroundings: Surroundings) -> Path:
    default = surroundings.folder("OPENCLAW_STATE_DIR", ".openclaw") / "openclaw.json"
    return surroundings.folder("OPENCLAW_CONFIG_PATH", str(default))


def defaults_of_the_run(target: Target, surroundings: Surroundings) -> dict[str, object]:
    """`agents.defaults` to lay over the user's: every role that a served model can play.

    An include adds lists up and replaces a mapping by a text, so that a model is named by a text, which has no
    fallbacks, and the list of allowed models gets ours where there is one. A role that the user gave to nobody goes to
    the session's model by itself. What compacts has to hold the whole session, so that is the main model; a
    `decisionModel` is a classifier of its own kind.
    """
    own = _defaults(_own_agents(surroundings))
    main = _named(target.model.name)
    eye = next((_named(model.name) for model in (*target.tiers, *target.models) if model.vision), None)
    wired: dict[Role, object] = {
        ("model",): main,
        ("utilityModel",): _named(target.haiku.name),
        ("subagents", "model"): _named(target.sonnet.name),
    }
    if_given: dict[Role, str | None] = {
        ("compaction", "model"): main,
        ("heartbeat", "model"): main,
        ("imageModel",): eye,
        ("pdfModel",): main,
    }
    wired |= {role: model for role, model in if_given.items() if model and _at(own, role) is not None}
    if _excludes_us(_at(own, _ALLOWED)):
        wired[_ALLOWED] = [f"{PROVIDER}/*"]
    # No two of them stand below the same mapping.
    return {role[0]: value if len(role) == 1 else {role[1]: value} for role, value in wired.items()}


def sent_elsewhere(surroundings: Surroundings, wired: Mapping[str, object]) -> tuple[str, ...]:
    """A sentence for each role that the user's file gives to a model of others, but for the defaults in `wired`."""
    path = own_file(surroundings)
    found: list[str] = []
    for place, agent in _agents(_own_agents(surroundings)):
        ours = wired if place == "defaults" else {}
        for role in _ROLES:
            chosen = _at(agent, role)
            model = chosen.get("primary") if isinstance(chosen, dict) else chosen
            is_foreign = isinstance(model, str) and model and not model.startswith(f"{PROVIDER}/")
            if is_foreign and _at(ours, role) is None:
                key = ".".join((place, *role))
                found.append(f"{path} sets agents.{key} to {model}, so that goes there and not to omlx")
        if _excludes_us(_at(agent, _ALLOWED)) and _at(ours, _ALLOWED) is None:
            key = ".".join((place, *_ALLOWED))
            found.append(f"{path} sets agents.{key} without '{PROVIDER}/*', so that another model is taken")
    return tuple(found)


def _agents(agents: dict[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    entries, listed = object_at(agents, "entries"), agents.get("list")
    for name in entries:
        yield f"entries.{name}", object_at(entries, name)
    for index, agent in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(agent, dict):
            yield f"list[{index}]", agent
    yield "defaults", _defaults(agents)


def _own_agents(surroundings: Surroundings) -> dict[str, object]:
    return object_at(lenient_object(surroundings.read(own_file(surroundings))), "agents")


def _defaults(agents: dict[str, object]) -> dict[str, object]:
    return object_at(agents, "defaults")


def _at(config: object, role: Role) -> object:
    for step in role:
        config = config.get(step) if isinstance(config, Mapping) else None
    return config


def _excludes_us(allowed: object) -> bool:
    """An empty list allows every model."""
    return isinstance(allowed, list) and bool(allowed) and f"{PROVIDER}/*" not in allowed


def _named(model: str) -> str:
    return f"{PROVIDER}/{model}"
