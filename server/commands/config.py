"""`omlx config`: shows the settings and where each is from, changes the file, checks it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from ..model_places import complete_setting
from ..settings.document import locked, write_document
from ..settings.importing import import_public
from ..settings.json_schema import json_schema
from ..settings.keys import MODELS, Key, find_key
from ..settings.layers import Configuration, Layer, Value, layered, read_values
from ..settings.loading import load_document
from ..settings.model_store import load_for_writing
from ..settings.now import settings_now
from ..settings.public_files import Translation
from ..settings.serve import omlx_home, settings_file

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("config")
def command() -> None:
    """Show and change the settings.

    The later one wins: default, settings.json in ~/.omlx (OMLX_HOME moves it), variables OMLX_…, options of
    `omlx serve`.
    """


@command.command()
@click.option("--origin", is_flag=True, help="Say where each value is from.")
@_json_option
def show(origin: bool, as_json: bool) -> None:
    """Print every setting in force."""
    values = _configuration().values.values()
    if as_json:
        _print_json({value.key.name: _described(value) if origin else value.value for value in values})
        return
    rows = [(value.key.name, json.dumps(value.value, ensure_ascii=False), _origin(value)) for value in values]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, text, where in rows:
        line = f"{name:<{widths[0]}}  {text:<{widths[1]}}"
        click.echo((f"{line}  {where}" if origin else line).rstrip())


@command.command("get")
@click.argument("key", shell_complete=complete_setting)
@_json_option
def get_command(key: str, as_json: bool) -> None:
    """Print one setting."""
    found = find_key(key)
    value = _configuration().values.get(found.name, Value(found, found.default)).value
    is_text = isinstance(value, str) and not as_json
    click.echo(value if is_text else json.dumps(value, ensure_ascii=False))


@command.command("set")
@click.argument("key", shell_complete=complete_setting)
@click.argument("value")
@_json_option
def set_command(key: str, value: str, as_json: bool) -> None:
    """Write one setting. VALUE is plain text or JSON: 8000, true, 50GB, '["/models"]'."""
    found = find_key(key)
    parsed = found.parse(value)
    path = settings_file(omlx_home(os.environ))
    with locked(path):
        document = load_for_writing(path)[0].changed(found.path, parsed)
        read_values(document)
        write_document(document)
    _tell(found, parsed, f"{found.name} is {json.dumps(parsed, ensure_ascii=False)}, {_when(found)}", as_json=as_json)


@command.command("unset")
@click.argument("key", shell_complete=complete_setting)
@_json_option
def unset_command(key: str, as_json: bool) -> None:
    """Take one setting out of the file."""
    found = find_key(key)
    path = settings_file(omlx_home(os.environ))
    with locked(path):
        before = load_for_writing(path)[0]
        document = before.without(found.path)
        was_set = document.content != before.content
        if was_set:
            read_values(document)
            write_document(document)
    again = f"{found.name} is {json.dumps(found.default)} again, {_when(found)}"
    _tell(found, found.default, again if was_set else f"{found.name} is not set in {path}", as_json=as_json)


@command.command(short_help="Check the settings file, or FILE.")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_json_option
def validate(file: Path | None, as_json: bool) -> None:
    """Check FILE, or the settings file there is; exit code 1 where the server would not start with it."""
    path = file or settings_file(omlx_home(os.environ))
    document, warnings = load_document(path)
    warnings = (*warnings, *read_values(document)[1])
    if as_json:
        _print_json({"file": str(path), "exists": path.exists(), "warnings": [str(warning) for warning in warnings]})
        return
    for warning in warnings:
        click.echo(f"omlx: {warning}", err=True)
    click.echo(f"{path}: {'valid' if path.exists() else 'there is none, so all is at its default'}")


@command.command()
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON, which it does anyway.")
def schema() -> None:
    """Print the JSON schema of settings.json, for editors."""
    _print_json(json_schema())


@command.command("import", short_help="Take over the public oMLX's settings.")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@_json_option
def import_command(path: Path, dry_run: bool, as_json: bool) -> None:
    """Take over the public oMLX's settings.json, its model_settings.json, or both from their folder."""
    home = omlx_home(os.environ)
    found = import_public(path, settings_file(home), _model_ids(), write=not dry_run)
    if as_json:
        _print_json(
            {
                "taken": [{"from": each.name, "key": each.key, "value": each.value} for each in found.taken],
                "left": [{"from": each.name, "reason": each.reason} for each in found.left],
            }
        )
        return
    _print_import(found)
    if not dry_run:
        click.echo(f"Written to {found.document.path}")


def _print_import(found: Translation) -> None:
    click.echo(f"Taken: {len(found.taken)}")
    for taken in found.taken:
        click.echo(f"  {taken.name} → {taken.key} = {json.dumps(taken.value, ensure_ascii=False)}")
    click.echo(f"Not taken: {len(found.left)}")
    for left in found.left:
        click.echo(f"  {left.name}: {left.reason}")


def _configuration() -> Configuration:
    document, warnings = load_document(settings_file(omlx_home(os.environ)))
    configuration = layered(document, os.environ, {})
    for warning in (*warnings, *configuration.warnings):
        click.echo(f"omlx: {warning}", err=True)
    return configuration


def _model_ids() -> list[str]:
    """The models there are, as far as the settings of now say where."""
    from ..models.catalog import discover

    settings = settings_now(os.environ)
    return [entry.id for entry in discover([folder for folder in settings.model_dirs if folder.is_dir()])]


def _origin(value: Value) -> str:
    return f"{value.layer} {value.place}" if value.layer is Layer.ENVIRONMENT else value.place or value.layer


def _described(value: Value) -> dict[str, object]:
    return {"value": value.value, "origin": value.layer, "place": value.place}


def _when(key: Key) -> str:
    return "from the next request on" if key.path[0] == MODELS else "when the server starts the next time"


def _tell(key: Key, value: object, text: str, *, as_json: bool) -> None:
    """Say what a setting of the file is now, and on stderr where a variable wins over it."""
    if as_json:
        _print_json({"key": key.name, "value": value})
    else:
        click.echo(text)
    if key.variable and os.environ.get(key.variable):
        click.echo(f"omlx: {key.variable} is set here, and wins over the file", err=True)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
