"""`omlx launch` from the request to the point of no return, in the order in which things may fail."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..integrations import find, names
from ..integrations.spec import KEY_VARIABLE, Integration, Model, Surroundings, Target
from .address import is_loopback
from .arrival import Arrival, announce
from .client import LARGEST_OUTPUT_CAP, ServerClient
from .errors import UnknownAgent
from .machine import Machine
from .own_key import own_key
from .plan import LaunchPlan, make_plan
from .process import become, find_executable, is_installed, sweep_run_files, write_run_files
from .reach import is_up, reached
from .selection import Selection, Wanted, choose, fit
from .state import Looker, OmlxHome, glob, read_last_models, remember_model
from .watching import watch_in_background

FittingPicker = Callable[[Sequence[Model], Callable[[Model], str]], Model]
"""Asks the user; the second argument says what speaks against a model."""

_UNKNOWN_MODEL = "MODEL"


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
    """An agent and what it is to be wired to; `client` is None where no server runs and nothing is known of it.

    `looker` is what the surroundings read with.
    """

    integration: Integration
    target: Target
    surroundings: Surroundings
    is_key_in_shell: bool
    client: ServerClient | None
    looker: Looker
    warnings: tuple[str, ...] = ()

    @property
    def has_key(self) -> bool:
        """Whether the key opens something, and isn't a random one for a server that asks for none."""
        return bool(self.surroundings.environ.get(KEY_VARIABLE))

    def for_a_shell(self, home: OmlxHome) -> Aim:
        """The same with its files in a place that lasts."""
        lasting = replace(self.surroundings, run_directory=home.shell_directory(self.integration.name))
        return replace(self, surroundings=lasting)

    def plan(self, *, force: bool, persist: bool) -> LaunchPlan:
        plan = make_plan(self.integration, self.target, self.surroundings, force=force, persist=persist)
        # Without a server the first one says that it does not tell the window.
        warnings = plan.warnings if self.client is not None else (*self.warnings, *plan.warnings[1:])
        return replace(plan, warnings=(*warnings, *self.looker.warnings))

    def announce(self, report: Callable[[str], None]) -> Arrival | None:
        """Have the model loaded and the agent expected."""
        assert self.client is not None
        return announce(self.client, self.integration, self.target, report)


@contextmanager
def taken_aim(
    request: LaunchRequest,
    machine: Machine,
    pick: FittingPicker | None,
    report: Callable[[str], None],
    *,
    may_start: bool,
    may_guess: bool = False,
) -> Iterator[Aim]:
    """Everything before a plan: the agent, the server and its list of models, which loads none of them.

    The block plans, and refuses what cannot be. With `may_start` a server that is down is started, and ended again
    where anything is refused. With `may_guess`, for what is only shown, the aim is taken without one that would be
    started.
    """
    integration = find_agent(request.agent)
    if may_guess and not is_up(machine, request.url):
        yield _guessed(integration, request, machine)
        return
    # Lines for a shell outlive a key that is made for this process.
    may_make_key = may_start or may_guess
    name = integration.name
    with reached(machine, request.url, name, report, may_start=may_start, may_make_key=may_make_key) as client:
        models = client.models()
        memory = machine.memory_bytes if is_loopback(client.url) else None

        def asked(models: Sequence[Model]) -> Model:
            assert pick is not None
            return pick(models, lambda model: fit(model, integration, memory))

        last_used = read_last_models(machine.omlx_home).get(name)
        chosen = choose(models, request.wanted, last_used, asked if pick else None)
        yield _aim(integration, request, machine, client, models, chosen)


def _aim(
    integration: Integration,
    request: LaunchRequest,
    machine: Machine,
    client: ServerClient | None,
    models: tuple[Model, ...],
    chosen: Selection,
) -> Aim:
    key = client.api_key if client is not None else own_key(machine.environ)
    url = client.url if client is not None else machine.resolve(request.url).url
    looker = Looker()
    return Aim(
        integration=integration,
        target=Target(
            url=url,
            model=chosen.model,
            opus=chosen.opus,
            sonnet=chosen.sonnet,
            haiku=chosen.haiku,
            models=models,
            api_key=key or new_launch_key(),
        ),
        surroundings=Surroundings(
            environ=machine.users_environ | ({KEY_VARIABLE: key} if key else {}),
            home=machine.user_home,
            directory=machine.directory,
            run_directory=machine.omlx_home.run_directory(integration.name),
            arguments=request.arguments,
            read=looker.read,
            glob=glob,
        ),
        is_key_in_shell=own_key(machine.environ) is not None,
        client=client,
        looker=looker,
    )


def _guessed(integration: Integration, request: LaunchRequest, machine: Machine) -> Aim:
    """With the names that the user gave or used last; the windows only a server knows."""
    wanted = request.wanted
    main = wanted.model or read_last_models(machine.omlx_home).get(integration.name) or _UNKNOWN_MODEL
    names = (main, wanted.opus or main, wanted.sonnet or main, wanted.haiku or main)
    known = {name: Model(name, None, LARGEST_OUTPUT_CAP) for name in names}
    chosen = Selection(*(known[name] for name in names))
    aim = _aim(integration, request, machine, None, tuple(known.values()), chosen)
    missing = "which models there are and how large their windows are"
    if main == _UNKNOWN_MODEL:
        missing += f", so {_UNKNOWN_MODEL} stands for the model that would be chosen"
    warning = f"no server runs at {aim.target.url}; one would be started, and it alone knows {missing}"
    return replace(aim, warnings=(warning,))


def list_agents(machine: Machine) -> list[tuple[Integration, bool]]:
    """Every agent, and whether it is installed here."""
    agents = [find_agent(name) for name in names()]
    return [(agent, is_installed(agent, machine.environ, machine.user_home)) for agent in agents]


def launch(plan: LaunchPlan, executable: str, machine: Machine, arrival: Arrival | None) -> None:
    """Write what is ours and become the agent; does not return."""
    home = machine.omlx_home
    write_run_files(plan)
    sweep_run_files(home.run_directory(plan.agent))
    remember_model(home, plan.agent, plan.model)
    if arrival is not None:
        watch_in_background(arrival, machine.environ, home)
    become(executable, plan, machine.environ)


def locate(agent: str, machine: Machine) -> str:
    """The agent's program. Raises UnknownAgent, AgentMissing."""
    return find_executable(find_agent(agent), machine.environ, machine.user_home)


def new_launch_key() -> str:
    """For a server that asks for no key: agents want one, and a random one says nothing to anybody."""
    return f"omlx-run-{secrets.token_urlsafe(18)}"
