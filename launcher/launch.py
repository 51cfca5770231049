"""`omlx launch` from the request to the point of no return, in the order in which things may fail."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..integrations import find, names
from ..integrations.spec import KEY_VARIABLE, Integration, Surroundings, Target
from .errors import UnknownAgent
from .machine import Machine
from .plan import LaunchPlan, make_plan
from .process import become, find_executable, is_installed, write_run_files
from .reach import reached
from .selection import Picker, Wanted, choose
from .starting import wait_until_loaded
from .state import read_last_models, read_text, remember_model


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the user typed. `arguments` are the agent's own."""

    agent: str
    wanted: Wanted
    url: str | None
    arguments: tuple[str, ...] = ()


def find_agent(name: str) -> Integration:
    """The integration. Raises UnknownAgent with the names there are."""
    integration = find(name)
    if integration is None:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownAgent(f"no agent {name!r}.{hint} There are: {', '.join(names())}")
    return integration


@dataclass(frozen=True, slots=True)
class Aim:
    """An agent and what it is to be wired to."""

    integration: Integration
    target: Target
    surroundings: Surroundings
    is_key_in_shell: bool

    @property
    def has_key(self) -> bool:
        """Whether the key opens something, and isn't a random one for a server that asks for none."""
        return bool(self.surroundings.environ.get(KEY_VARIABLE))

    def plan(self, *, force: bool, persist: bool) -> LaunchPlan:
        return make_plan(self.integration, self.target, self.surroundings, force=force, persist=persist)


@contextmanager
def taken_aim(
    request: LaunchRequest,
    machine: Machine,
    pick: Picker | None,
    report: Callable[[str], None],
    *,
    may_start: bool,
    loads: bool = False,
) -> Iterator[Aim]:
    """Everything before a plan: the agent, the server and its list of models, which loads none of them.

    The block plans, and refuses what cannot be. With `may_start` a server that is down is started, and ended again
    where anything is refused. With `loads` the models are waited for, after the block.
    """
    integration = find_agent(request.agent)
    home = machine.omlx_home
    with reached(machine, request.url, integration.name, report, may_start=may_start) as client:
        models = client.models()
        chosen = choose(models, request.wanted, read_last_models(home).get(integration.name), pick)
        target = Target(
            url=client.url,
            model=chosen.model,
            opus=chosen.opus,
            sonnet=chosen.sonnet,
            haiku=chosen.haiku,
            models=models,
            api_key=client.api_key or new_launch_key(),
        )
        surroundings = Surroundings(
            environ=dict(machine.environ) | ({KEY_VARIABLE: client.api_key} if client.api_key else {}),
            home=machine.user_home,
            directory=machine.directory,
            run_directory=home.run_directory(integration.name),
            arguments=request.arguments,
            read=read_text,
        )
        yield Aim(integration, target, surroundings, is_key_in_shell=bool(machine.environ.get(KEY_VARIABLE)))
        if loads:
            wait_until_loaded(client, [tier.name for tier in target.tiers], report)


def list_agents(machine: Machine) -> list[tuple[Integration, bool]]:
    """Every agent, and whether it is installed here."""
    agents = [find_agent(name) for name in names()]
    return [(agent, is_installed(agent, machine.environ, machine.user_home)) for agent in agents]


def launch(plan: LaunchPlan, executable: str, machine: Machine) -> None:
    """Write what is ours and become the agent; does not return."""
    home = machine.omlx_home
    write_run_files(plan, home.run_directory(plan.agent))
    remember_model(home, plan.agent, plan.model)
    become(executable, plan, machine.environ)


def locate(agent: str, machine: Machine) -> str:
    """The agent's program. Raises UnknownAgent, AgentMissing."""
    return find_executable(find_agent(agent), machine.environ, machine.user_home)


def new_launch_key() -> str:
    """For a server that asks for no key: agents want one, and a random one says nothing to anybody."""
    return f"omlx-run-{secrets.token_urlsafe(18)}"
