"""State machines that count their steps, so that it can be said how many there were."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant

settings.register_profile(
    "torture",
    max_examples=200,
    stateful_step_count=100,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""For `python -m tests.torture`; the suite has smaller numbers, each machine its own."""


class CountingMachine(RuleBasedStateMachine):
    num_steps: ClassVar[int] = 0
    """Of all its runs."""

    def __init__(self) -> None:
        super().__init__()
        type(self).num_steps -= 1  # invariants are looked at before the first step, too

    @invariant()
    def is_a_step(self) -> None:
        type(self).num_steps += 1


def short(examples: int, steps: int) -> settings:
    """What the suite has time for."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
