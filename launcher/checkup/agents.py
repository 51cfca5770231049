"""The agents: which are here, what of their own settings wins over the wiring, whether windows do, and the keys."""

from __future__ import annotations

from collections.abc import Iterator

from ...integrations.spec import KEY_VARIABLE, Integration, Model, Refusal, Surroundings, Target
from ..errors import LauncherError
from ..keys import lasting_keys
from ..launch import list_agents
from ..own_key import own_key
from ..secrets import KeyStore, find_backend, system_keychain
from ..state import Looker, glob
from .finding import Finding, Patient, fail, ok, warn

_UNKNOWN_MODEL = Model("model", None, 16_384)


def agents(patient: Patient) -> Iterator[Finding]:
    here = [agent.title for agent in _installed(patient)]
    if here:
        yield ok("agents", ", ".join(here))
    else:
        yield warn("agents", "none is installed", "`omlx launch --list` says how to install them")


def overrides(patient: Patient) -> Iterator[Finding]:
    """What an agent's own settings say that would win over what omlx wires."""
    found = False
    for agent in _installed(patient):
        for warning in _warnings(agent, patient):
            found = True
            yield warn("overrides", f"{agent.title}: {warning}", "take it out there, or ask who manages that file")
    if not found:
        yield ok("overrides", "no agent's own settings win over the wiring")


def windows(patient: Patient) -> Iterator[Finding]:
    """Installed agents that no served model is large enough for."""
    served = patient.status.models if patient.status is not None else ()
    sizes = [model.context_window for model in served if model.context_window is not None]
    if not sizes:
        yield ok("windows", "no server to ask")
        return
    widest = max(sizes)
    small = [agent for agent in _installed(patient) if agent.minimum_context > widest]
    for agent in small:
        fact = f"{agent.title} needs {agent.minimum_context:,} tokens; the widest window here has {widest:,}"
        yield warn("windows", fact, "serve a model with a larger window, or raise its max_context_window")
    if not small:
        yield ok("windows", f"{widest:,} tokens, enough for every agent that is installed")


def keychain(patient: Patient) -> Iterator[Finding]:
    if find_backend(patient.machine.environ) is None:
        remedy = f"`omlx key new NAME --yes` keeps a key in a private file; or set {KEY_VARIABLE} where it is used"
        yield warn("keychain", "this system has none that is safe", remedy)
    else:
        yield ok("keychain", "there is one")


def keys(patient: Patient) -> Iterator[Finding]:
    """Whether the server's keys have copies here."""
    machine = patient.machine
    try:
        own = own_key(machine.environ)
        made = [key.name for key in lasting_keys(machine.omlx_home.root)]
        if not made:
            yield ok("keys", "none was made: the server on this machine asks for none")
            return
        store = KeyStore(machine.omlx_home.root, machine.environ, system_keychain(machine.environ, interactive=False))
        lost = sorted(set(made) - set(store.names()))
    except LauncherError as error:
        yield fail("keys", str(error), "correct that, and look again")
        return
    if lost and own is None:
        fact = f"no copy of the key {lost[0]!r} is in the keychain"
        yield warn(
            "keys", fact, f"`omlx key rotate {lost[0]} --yes` makes a new one and keeps it, or set {KEY_VARIABLE}"
        )
    else:
        yield ok("keys", ", ".join(made))


def _installed(patient: Patient) -> list[Integration]:
    return [agent for agent, is_here in list_agents(patient.machine) if is_here]


def _warnings(agent: Integration, patient: Patient) -> tuple[str, ...]:
    served = patient.status.models if patient.status is not None else ()
    model = served[0] if served else _UNKNOWN_MODEL
    machine = patient.machine
    url = machine.resolve(None).url
    target = Target(url, model, model, model, model, served or (model,), api_key="key")
    run_directory = machine.omlx_home.run_directory(agent.name)
    place = (machine.users_environ, machine.user_home, machine.directory, run_directory)
    looker = Looker()
    surroundings = Surroundings(*place, (), looker.read, glob)
    warnings: tuple[str, ...] = ()
    try:
        if agent.wire is not None:
            warnings = agent.wire(target, surroundings).warnings
        elif agent.overrides is not None:
            warnings = agent.overrides(target, surroundings)
    except Refusal as refusal:
        warnings = (str(refusal),)
    return (*warnings, *looker.warnings)
