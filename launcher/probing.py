"""`omlx probe` and `omlx status`: put the questions to a server that already runs; neither starts one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from ..integrations.spec import Model
from .address import ServerAddress, is_loopback
from .benchmark import Plan, Row, measure
from .client import Health, ServerClient
from .keys import access_key
from .machine import Machine
from .probe import ProbeResult, make_probes, run_probes
from .selection import Wanted, choose

_SILENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Probed:
    url: str
    model: str
    results: tuple[ProbeResult, ...]


@dataclass(frozen=True, slots=True)
class Status:
    address: ServerAddress
    health: Health
    models: tuple[Model, ...]


def probe_server(machine: Machine, url: str | None, model: str | None, report: Callable[[str], None]) -> Probed:
    """Raises ServerError where the server is not even there, ModelError where the model is open."""
    with chosen_model(machine, url, model, "probe") as (http, address, chosen):
        return Probed(address, chosen.name, run_probes(http, chosen, make_probes(secrets.token_hex(8)), report))


def measure_server(
    machine: Machine,
    url: str | None,
    model: str | None,
    concurrency: tuple[int, ...],
    lengths: tuple[int, ...],
    report: Callable[[str], None],
) -> tuple[str, tuple[Row, ...]]:
    """The address and what was measured there. Raises as `probe_server`."""
    with chosen_model(machine, url, model, "bench") as (http, address, chosen):
        plan = Plan(concurrency, lengths, chosen.context_window)
        return address, tuple(measure(http, chosen.name, plan, report))


@contextmanager
def chosen_model(
    machine: Machine, url: str | None, model: str | None, purpose: str
) -> Iterator[tuple[httpx.Client, str, Model]]:
    """A client of a server that runs, its address, and the model to ask; the key is that of `purpose`."""
    key = access_key(machine, machine.resolve(url).url, purpose, may_make=True)
    status = ask_status(machine, url, key)
    chosen = choose(status.models, Wanted(model), last_used=None, pick=None).model
    headers = {"authorization": f"Bearer {key}"} if key else {}
    base_url = status.address.url
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=5.0)
    with httpx.Client(base_url=base_url, headers=headers, timeout=timeout, trust_env=not is_loopback(base_url)) as http:
        yield http, base_url, chosen


def ask_status(machine: Machine, url: str | None, key: str | None = None) -> Status:
    """Raises ServerDown, BadAnswer."""
    address = machine.resolve(url)
    client = ServerClient(address.url, key or access_key(machine, address.url, "status", may_make=True))
    try:
        return Status(address, client.health(), client.models())
    finally:
        client.close()
