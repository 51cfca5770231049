"""docs/cli.md names the commands of the server's side with their options; those of `serve` stand in settings.md."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from omlx.server.__main__ import commands

CONTEXT = click.Context(commands)


@pytest.mark.parametrize("name", commands.list_commands(CONTEXT))
def test_every_command_and_option_is_in_the_docs(name: str, checkout: Path):
    docs = "".join((checkout / "docs" / page).read_text(encoding="utf-8") for page in ("cli.md", "settings.md"))
    command = commands.get_command(CONTEXT, name)
    assert command is not None
    assert f"`omlx {name}" in docs
    options = {
        option for each in command.params if isinstance(each, click.Option) and not each.hidden for option in each.opts
    }
    assert sorted(option for option in options if f"`{option}" not in docs) == []
