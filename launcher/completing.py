"""What shells complete besides commands and options: agents, models, keys.

Somebody waits with a finger on Tab: what takes long or goes wrong completes nothing, and is said when the command runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from .errors import LauncherError

if TYPE_CHECKING:
    from .machine import Machine

_SERVER_SECONDS = 0.5


def complete_agent(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The agents there are."""
    del context, parameter
    from ..integrations import names

    return _begun(incomplete, names())


def complete_wired(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The agents that are wired."""
    del context, parameter
    from .journal import wired

    try:
        return _begun(incomplete, (entry.agent for entry in wired(_this_machine().omlx_home.root)))
    except LauncherError:
        return []


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names that have a key; the admin key can be ended, and neither shown nor rotated."""
    del parameter
    from .keys import ADMIN, read_keys

    ends = context.info_name == "revoke"
    try:
        keys = read_keys(_this_machine().omlx_home.root)
        return _begun(incomplete, (key.name for key in keys if ends or key.scope != ADMIN))
    except LauncherError:
        return []


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The models of the server, or those in omlx's own folder where it does not tell."""
    del parameter
    machine = _this_machine()
    try:
        names: Iterable[str] = _served(machine, context.params.get("url"))
    except LauncherError:
        names = _in_folder(machine)
    return _begun(incomplete, names)


def _served(machine: Machine, url: str | None) -> list[str]:
    from contextlib import closing

    from .client import ServerClient
    from .own_key import own_key

    # The keychain might ask for a password.
    key = own_key(machine.environ)
    with closing(ServerClient(machine.resolve(url).url, key, _SERVER_SECONDS)) as client:
        return [name for model in client.models() for name in (model.name, model.alias) if name]


def _in_folder(machine: Machine) -> Iterator[str]:
    folder = machine.omlx_home.root / "models"
    for config in (*folder.glob("[!.]*/config.json"), *folder.glob("[!.]*/[!.]*/config.json")):
        yield str(config.parent.relative_to(folder))


def _this_machine() -> Machine:
    from .cli_options import this_machine

    return this_machine()


def _begun(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
