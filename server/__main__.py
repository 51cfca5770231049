"""`python -m omlx.server`: the commands that need the server's side. `omlx` passes them on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from .config_commands import config
from .errors import OmlxError
from .requests import Json
from .settings.keys import Key, keys
from .settings.layers import flag_of, layered
from .settings.loading import load_document
from .settings.serve import ServeSettings, omlx_home, settings_file

_FOLDERS = ("server.model_dirs", "cache.folder")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """omlx: serve models you run yourself."""


def _setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting that is no model's."""
    for key in reversed(keys()):
        metavar = "FOLDER" if key.name in _FOLDERS else "VALUE"
        parameter = key.name.replace(".", "_")
        command = click.option(flag_of(key), parameter, metavar=metavar, multiple=key.is_list, help=_help(key))(command)
    return command


def _help(key: Key) -> str:
    given_twice = "; may be given more than once" if key.is_list else ""
    default = f"  [default: {key.default}]" if key.default not in (None, []) else ""
    return f"{key.description}{given_twice}.{default}"


@commands.command()
@_setting_options
@click.option("--model", default=None, help="Load this model at once.  [default: the only one]")
def serve(model: str | None, **options: str | tuple[str, ...] | None) -> None:
    """Serve models over the OpenAI and Anthropic protocols.

    An option holds for this run only; `omlx config set` writes a setting for good, and `omlx config show --origin`
    says where each is from. Where OMLX_API_KEY is set, clients must send that key. OMLX_HOME moves ~/.omlx.
    """
    from .serving import serve as run

    home = omlx_home(os.environ)
    document, warnings = load_document(settings_file(home))
    configuration = layered(document, os.environ, _flags(options))
    for warning in (*warnings, *configuration.warnings):
        click.echo(f"omlx: {warning}", err=True)
    run(ServeSettings.of(configuration, home, os.environ.get("OMLX_API_KEY", "")), model)


def _flags(options: Mapping[str, str | tuple[str, ...] | None]) -> dict[str, Json]:
    """The options given, by the setting's name. Folders are the caller's, not omlx's."""
    given: dict[str, Json] = {}
    for key in keys():
        option = options[key.name.replace(".", "_")]
        if option:
            texts = [option] if isinstance(option, str) else list(option)
            if key.name in _FOLDERS:
                texts = [str(Path(text).expanduser().absolute()) for text in texts]
            given[key.name] = [*texts] if key.is_list else texts[0]
    return given


@commands.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", default=None, help="Name of the model.  [default: from the file's]")
@click.option(
    "--type",
    "type_name",
    type=click.Choice(["auto", "keep", "float32", "bfloat16", "4bit", "8bit"]),
    default="auto",
    show_default=True,
    help="How the weights are stored. auto: float32 where MLX has only a CPU, else as in the file.",
)
@click.option("--force", is_flag=True, help="Replace a model of the same name.")
def import_model(file: Path, name: str | None, type_name: str, force: bool) -> None:
    """Turn a GGUF file of the Llama family into a model under ~/.omlx/models."""
    from .models.importing import ImportType, import_gguf

    with click.progressbar(length=file.stat().st_size, label=f"Importing {file.name}", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        folder = import_gguf(
            file,
            models_folder=omlx_home(os.environ) / "models",
            name=name,
            dtype=ImportType(type_name),
            force=force,
            progress=show,
        )
    click.echo(f"Imported {folder.name} into {folder}")


commands.add_command(config)


def main() -> None:
    try:
        commands(prog_name="omlx")
    except OmlxError as error:
        click.echo(f"omlx: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
