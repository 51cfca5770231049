"""`omlx completion`: the shell completes omlx's commands, options and agents."""

from __future__ import annotations

import click

from ..cli_options import json_option, this_machine


@click.command("completion", short_help="Install shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
@click.option("--print", "is_printed", is_flag=True, help="Print the script and write nothing.")
@json_option
def command(shell: str | None, is_printed: bool, as_json: bool) -> None:
    """Install completion for SHELL, your own unless it is named, into the shell's folder of completions.

    For zsh, which has no such folder, a line that reads it is added to .zshrc, once.
    """
    import json

    from ..shell_completion import install, script, shell_of

    machine = this_machine()
    chosen = shell or shell_of(machine.environ)
    if is_printed:
        click.echo(script(chosen))
        return
    path = install(chosen, machine)
    if as_json:
        click.echo(json.dumps({"shell": chosen, "path": str(path)}))
    else:
        click.echo(f"Installed completion for {chosen} in {path}. It works in shells that you open from now on.")
