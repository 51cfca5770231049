"""`omlx ps`: which models a server has in memory, and how they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .client import Pulse
from .probing import Status
from .selection import size_text
from .terminal import columns


@dataclass(frozen=True, slots=True)
class RunningModel:
    """`state` is loaded, loading, stalled or failed; `reason` says why it failed."""

    name: str
    state: str
    size_bytes: int | None
    pulse: Pulse
    reason: str = ""


def running_models(status: Status) -> tuple[RunningModel, ...]:
    return tuple(_running_models(status))


def _running_models(status: Status) -> Iterator[RunningModel]:
    health = status.health
    for model in status.models:
        pulse = health.engines.get(model.name, Pulse())
        if model.name in health.failed:
            yield RunningModel(model.name, "failed", model.size_bytes, pulse, health.reasons.get(model.name, ""))
        elif model.name in health.loading:
            yield RunningModel(model.name, "loading", model.size_bytes, pulse)
        elif model.loaded:
            state = "stalled" if model.name in health.stalled else "loaded"
            yield RunningModel(model.name, state, model.size_bytes, pulse)


def running_text(models: tuple[RunningModel, ...], status: Status) -> str:
    requests = f"{status.health.num_running} running, {status.health.num_waiting} waiting"
    if not models:
        return f"No model is in memory at {status.address.url}; {requests}."
    rows = [
        (
            model.name,
            model.state,
            "-" if model.size_bytes is None else size_text(model.size_bytes),
            "never" if model.pulse.seconds_since_decode is None else f"{ago(model.pulse.seconds_since_decode)} ago",
            model.reason,
        )
        for model in models
    ]
    return f"{columns([('MODEL', 'STATE', 'WEIGHTS', 'LAST TOKEN', ''), *rows])}\n{requests}"


def ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
