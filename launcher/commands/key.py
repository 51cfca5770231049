"""`omlx key`: the keys that open the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cli_options import is_terminal, json_option, this_machine
from ..completing import complete_key

if TYPE_CHECKING:
    from ..secrets import KeyStore

_file_consent = click.option("--yes", is_flag=True, help="Where there is no keychain, keep it in a private file.")


@click.group("key", short_help="Make, list, show and end the keys that open the server.")
def command() -> None:
    """One key for each agent. The server knows their hashes alone; yours are in the system's keychain.

    As soon as there is a key, the server on this machine answers nobody without one. `omlx launch AGENT` uses the
    agent's, or one that ends with the agent.
    """


@command.command("new")
@click.argument("name")
@_file_consent
@json_option
def new_command(name: str, yes: bool, as_json: bool) -> None:
    """Make a key for NAME, such as an agent's name, and print it."""
    from datetime import UTC, datetime

    from ..keys import lasting_keys, new_key

    home = this_machine().omlx_home.root
    key = new_key(home, name, datetime.now(UTC))
    if len(lasting_keys(home)) == 1:
        click.echo("The server on this machine now asks for a key.", err=True)
    _hand_over(name, key, yes=yes, as_json=as_json)


@command.command("admin")
@json_option
def admin_command(as_json: bool) -> None:
    """Make the key of the admin pages at /admin. It is printed this once, and one made before ends.

    It opens these pages and their API alone, and no other key opens them. No copy is kept: where it is lost, make
    another.
    """
    from datetime import UTC, datetime

    from ..keys import new_admin_key

    key = new_admin_key(this_machine().omlx_home.root, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({"name": "admin", "key": key, "last4": key[-4:]}, indent=2))
        return
    click.echo(key)
    click.echo("No copy is kept, and it is not shown again. Open /admin on the server, and log in with it.", err=True)


@command.command("rotate")
@click.argument("name", shell_complete=complete_key)
@_file_consent
@json_option
def rotate_command(name: str, yes: bool, as_json: bool) -> None:
    """Make a new key for NAME; the old one opens nothing from now on."""
    from datetime import UTC, datetime

    from ..keys import rotate_key

    key = rotate_key(this_machine().omlx_home.root, name, datetime.now(UTC))
    _hand_over(name, key, yes=yes, as_json=as_json)


@command.command("revoke")
@click.argument("name", shell_complete=complete_key)
@json_option
def revoke_command(name: str, as_json: bool) -> None:
    """End NAME's key, and those of its launches that still run."""
    from ..errors import SecretsError
    from ..keys import ADMIN, lasting_keys, read_keys, revoke_key

    home = this_machine().omlx_home.root
    revoke_key(home, name)
    try:
        _store().remove(name)
    except SecretsError as error:
        click.echo(f"omlx: your copy of it stays, and opens nothing: {error}", err=True)
    click.echo(json.dumps({"name": name, "revoked": True}) if as_json else f"Revoked {name}.")
    if not lasting_keys(home):
        left = (
            "No key but the admin pages' is left"
            if any(key.scope == ADMIN for key in read_keys(home))
            else "No key is left"
        )
        click.echo(f"{left}: a server on this machine that has no OMLX_API_KEY asks agents for none.", err=True)


@command.command("list", short_help="List the keys, without showing them.")
@json_option
def list_command(as_json: bool) -> None:
    """List the keys: whose, the last four characters, since when, and until when those of launches hold."""
    from datetime import UTC, datetime

    from ..keys import live_keys
    from ..terminal import columns

    keys = live_keys(this_machine().omlx_home.root, datetime.now(UTC))
    if as_json:
        listed = [
            {
                "name": key.name,
                "last4": key.last4,
                "created": key.created.isoformat(),
                "expires": key.expires and key.expires.isoformat(),
            }
            for key in keys
        ]
        click.echo(json.dumps(listed, indent=2))
    elif keys:
        rows = [
            (
                key.name,
                f"…{key.last4}",
                f"{key.created.astimezone():%Y-%m-%d %H:%M}",
                "until it is revoked" if key.expires is None else "until its launch ends",
            )
            for key in keys
        ]
        click.echo(columns([("NAME", "KEY", "SINCE", "HOLDS"), *rows]))
    else:
        click.echo("There are no keys.", err=True)


@command.command("show", short_help="Print your copy of NAME's key.")
@click.argument("name", shell_complete=complete_key)
@json_option
def show_command(name: str, as_json: bool) -> None:
    """Print your copy of NAME's key, for the shell that starts an agent wired for good.

    export OMLX_API_KEY="$(omlx key show pi)"
    """
    from ..keys import kept_copy

    key = kept_copy(this_machine().omlx_home.root, name, _store())
    click.echo(json.dumps({"name": name, "key": key}, indent=2) if as_json else key)


def _hand_over(name: str, key: str, *, yes: bool, as_json: bool) -> None:
    """Keep the user's copy, and print it."""
    from ..errors import SecretsError
    from ..review import confirm

    def consent(file: Path) -> bool:
        try:
            return yes or (is_terminal() and confirm(f"There is no keychain. Keep the key in {file}?", input))
        except KeyboardInterrupt:
            return False  # the key is made, and nobody would ever see it

    try:
        place = _store().put(name, key, consent)
    except SecretsError as error:
        place = None
        click.echo(f"omlx: the key is kept nowhere: {error}", err=True)
    if as_json:
        click.echo(json.dumps({"name": name, "key": key, "last4": key[-4:], "kept_in": place}, indent=2))
        return
    click.echo(key)
    if place is not None:
        click.echo(f"It is kept in {place}; `omlx key show {name}` prints it.", err=True)


def _store() -> KeyStore:
    """The copies that are kept, whatever the environment holds."""
    from ..secrets import KeyStore, system_keychain

    machine = this_machine()
    keychain = system_keychain(machine.environ, is_terminal())
    return KeyStore(machine.omlx_home.root, {}, keychain)
