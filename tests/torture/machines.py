"""The state machines of the suite for as long as they find nothing: `python -m tests.torture --only machines`."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ..cache.test_prefix_cache_machine import PrefixCacheMachine
from ..engine.test_scheduler_machine import SchedulerMachine
from ..machines import CountingMachine
from ..settings.test_settings_machine import SettingsMachine
from ..settings.test_store_machine import StoreMachine

MACHINES: dict[str, type[CountingMachine]] = {
    "the scheduler and its memory": SchedulerMachine,
    "the prefix cache over a tier that fails": PrefixCacheMachine,
    "the server's settings": SettingsMachine,
    "the models' settings": StoreMachine,
}


@dataclass(frozen=True)
class Ran:
    what: str
    num_steps: int
    has_failed: bool


def machines(num_steps: int) -> Iterator[Ran]:
    """Each machine for at least so many steps, or until it fails; then the shortest way there is printed."""
    profile = settings.get_profile("torture")
    before_all = logging.root.manager.disable
    logging.disable(logging.ERROR)  # much is refused on purpose
    for what, machine in MACHINES.items():
        before, has_failed = machine.num_steps, False
        while machine.num_steps - before < num_steps and not has_failed:
            left = num_steps - (machine.num_steps - before)
            examples = min(profile.max_examples, max(1, left // 20))
            try:
                run_state_machine_as_test(machine, settings=settings(profile, max_examples=examples))
            except Exception:  # the row of this machine is wrong then
                has_failed = True
                traceback.print_exc(file=sys.stderr)
        yield Ran(what, machine.num_steps - before, has_failed)
    logging.disable(before_all)
