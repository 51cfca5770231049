"""Tells the server who comes, so that it loads the model and brings the agent's last prompt back into memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..integrations.spec import Integration, Target
from .client import ServerClient
from .errors import StartFailed
from .selection import size_text
from .starting import wait_until_loaded

_POLL_SECONDS = 0.1
_LOAD_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """An announced launch: where to ask whether the agent has come."""

    url: str
    launch_id: str
    title: str
    api_key: str = field(repr=False)


def announce(
    client: ServerClient,
    integration: Integration,
    target: Target,
    report: Callable[[str], None],
    timeout_seconds: float = _LOAD_SECONDS,
) -> Arrival | None:
    """Returns once the model is loaded; None where the server is of another kind, which can't be told.

    Raises StartFailed where the model cannot be loaded, or time is up.
    """
    model = target.model
    launch = client.announce(integration.name, model.name, target.api_key)
    if launch is None:
        wait_until_loaded(client, [model.name], report)
        return None
    size = "" if model.size_bytes is None else f" ({size_text(model.size_bytes)})"
    began = time.monotonic()
    while launch.state == "loading":
        waited = time.monotonic() - began
        if waited > timeout_seconds:
            raise StartFailed(f"{model.name} did not load within {waited:.0f} s; the server's log may say why")
        report(f"loading {model.name}{size}… {waited:.0f} s")
        time.sleep(_POLL_SECONDS)
        launch = client.launch(launch.id, target.api_key)
    if launch.state == "failed":
        raise StartFailed(f"the server could not load {model.name}: {launch.error}")
    return Arrival(client.url, launch.id, integration.title, target.api_key)
