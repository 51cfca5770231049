"""What every driver of a client shares.

A driver is a program of its own, `python -m tests.clients.drivers.NAME URL KEY`, so that it can run in the
environment that its client is installed in. Its last line is one JSON object: the outcome of each case. An
error's outcome are the names of its types.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..script import WEATHER

Outcome = dict[str, Any]

MODEL = "tiny"
BUSY_MODEL = "busy"
"""Its queue holds nobody."""
MAX_BODY_BYTES = 1 << 20

PERSON_SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITY_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    key: str


Case = Callable[[Server], Outcome]
Ask = Callable[[Server, str, str], object]
"""Puts a question to the model of that name."""


def get_weather(city: str) -> str:
    """The weather in a city."""
    return WEATHER[city]


def drive(cases: Iterable[Case], ask: Ask) -> None:
    """Run the cases, and those in which any client is refused, against the server that the command line names, and
    print their outcomes."""
    sys.addaudithook(_refuse_other_machines)
    server = Server(sys.argv[1], sys.argv[2])
    named = {case.__name__: case for case in cases} | _refused(ask)
    print(json.dumps({name: _outcome(case, server) for name, case in named.items()}))


def _refused(ask: Ask) -> dict[str, Case]:
    def case(text: str = "say hello", model: str = MODEL, key: str = "") -> Case:
        return lambda server: {"answered": str(ask(Server(server.url, key or server.key), text, model))}

    return {
        "wrong_key": case(key="another key"),
        "unknown_model": case(model="missing"),
        "overflow": case("x" * 20_000),  # more than the window holds: the model's tokens are bytes
        "too_large": case("x" * MAX_BODY_BYTES),
        "busy": case(model=BUSY_MODEL),
    }


def _outcome(case: Case, server: Server) -> Outcome:
    try:
        return case(server)
    except Exception as error:  # its type is the outcome
        headers: Any = getattr(getattr(error, "response", None), "headers", {})
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds, "message": str(error), "retry_after": headers.get("retry-after")}


def _refuse_other_machines(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not ipaddress.ip_address(str(address[0])).is_loopback:
        raise PermissionError(f"the client tried to reach {address[0]}")
