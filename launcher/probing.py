"""`omlx probe`, `omlx bench` and `omlx status`: put the questions to servers that already run; none starts one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx

from ..integrations.spec import Model
from .address import ServerAddress, is_loopback
from .benchmark import Plan, Row, measure
from .client import Health, ServerClient
from .errors import LauncherError, ServerDown
from .keys import COMMAND_LIFETIME, access_key
from .machine import Machine
from .probe import ProbeResult, make_probes, run_probes
from .reach import down
from .selection import Wanted, choose
from .strays import Stray, strays

_SILENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Probed:
    url: str
    model: str
    results: tuple[ProbeResult, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to measure: the server's own address without a `url`, its only model without a `model`."""

    url: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    url: str
    model: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Status:
    address: ServerAddress
    health: Health
    models: tuple[Model, ...]
    strays: tuple[Stray, ...] = ()


def probe_server(
    machine: Machine,
    url: str | None,
    model: str | None,
    report: Callable[[str], None],
    tell: Callable[[ProbeResult], None] = lambda _: None,
) -> Probed:
    """`report` and `tell` as `run_probes` has them. Raises ServerError where the server is not even there, ModelError
    where the model is open."""
    with chosen_model(machine, url, model, "probe") as (http, address, chosen):
        probes = make_probes(secrets.token_hex(8))
        return Probed(address, chosen.name, run_probes(http, chosen, probes, report, tell))


def measure_endpoints(
    machine: Machine,
    endpoints: Sequence[Endpoint],
    concurrency: tuple[int, ...],
    lengths: tuple[int, ...],
    report: Callable[[str], None],
) -> tuple[Measured, ...]:
    """Each endpoint's rows, once all of them have answered. Raises as `probe_server`, and where two are the same."""
    with ExitStack() as stack:
        opened = [stack.enter_context(chosen_model(machine, one.url, one.model, "bench")) for one in endpoints]
        names = [(_place(address), chosen.name) for _, address, chosen in opened]
        if len(set(names)) < len(names):
            raise LauncherError(
                f"{opened[0][1]} would be compared with itself; give --compare another address, "
                "or name another of its models with --compare-model"
            )
        measured: list[Measured] = []
        for http, address, chosen in opened:
            plan = Plan(concurrency, lengths, chosen.context_window)
            words = f"{address}: " if len(opened) > 1 else ""
            rows = tuple(measure(http, chosen.name, plan, lambda text, words=words: report(words + text)))
            measured.append(Measured(address, chosen.name, rows))
        return tuple(measured)


@contextmanager
def chosen_model(
    machine: Machine, url: str | None, model: str | None, purpose: str
) -> Iterator[tuple[httpx.Client, str, Model]]:
    """A client of a server that runs, its address, and the model to ask; the key is that of `purpose`."""
    key = access_key(machine, machine.resolve(url).url, purpose, may_make=True, lifetime=COMMAND_LIFETIME)
    status = ask_status(machine, url, key)
    chosen = choose(status.models, Wanted(model), last_used=None, pick=None).model
    headers = {"authorization": f"Bearer {key}"} if key else {}
    base_url = status.address.url
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=5.0)
    with httpx.Client(base_url=base_url, headers=headers, timeout=timeout, trust_env=not is_loopback(base_url)) as http:
        yield http, base_url, chosen


def ask_status(machine: Machine, url: str | None, key: str | None = None, timeout: float = 5.0) -> Status:
    """`timeout` is how many seconds the server may be silent. Raises ServerDown, BadAnswer."""
    address = machine.resolve(url)
    key = key or access_key(machine, address.url, "status", may_make=True, lifetime=COMMAND_LIFETIME)
    client = ServerClient(address.url, key, timeout)
    try:
        return Status(address, client.health(), client.models(), strays(machine.omlx_home))
    except ServerDown:
        raise down(address) from None
    finally:
        client.close()


def _place(url: str) -> SplitResult:
    """The address, with one name for this machine."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"localhost:{parts.port}") if is_loopback(url) else parts
