"""What a check says, and what the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ..machine import Machine
from ..probing import Status
from ..state import ServerState


class Grade(StrEnum):
    """WARN: something may go wrong; FAIL: something does."""

    OK = "ok"
    WARN = "warning"
    FAIL = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fact` is what was found, `remedy` what to do about it; empty where all is well."""

    check: str
    grade: Grade
    fact: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """The machine, and the server as far as it could be asked: `trouble` says why it could not."""

    machine: Machine
    platform: str
    processor: str
    state: ServerState | None
    status: Status | None
    trouble: str = ""


Check = Callable[[Patient], Iterator[Finding]]


def ok(check: str, fact: str) -> Finding:
    return Finding(check, Grade.OK, fact)


def warn(check: str, fact: str, remedy: str) -> Finding:
    return Finding(check, Grade.WARN, fact, remedy)


def fail(check: str, fact: str, remedy: str) -> Finding:
    return Finding(check, Grade.FAIL, fact, remedy)
