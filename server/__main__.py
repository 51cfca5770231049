"""`python -m omlx.server`: the commands that need the server's side. `omlx` passes them on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from .errors import OmlxError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """omlx: serve models you run yourself."""


@commands.command()
@click.option(
    "--model-dir",
    "model_dirs",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="Folder with models; may be given more than once.  [default: ~/.omlx/models]",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; others than loopback need a key."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option("--model", default=None, help="Load this model at once.  [default: the only one]")
def serve(model_dirs: tuple[Path, ...], host: str, port: int, model: str | None) -> None:
    """Serve models over the OpenAI and Anthropic protocols.

    Where OMLX_API_KEY is set, clients must send that key. OMLX_HOME moves ~/.omlx.
    """
    from .serving import serve as run
    from .settings import ServeSettings

    home = _home()
    settings = ServeSettings(
        home=home,
        model_dirs=model_dirs or (home / "models",),
        host=host,
        port=port,
        api_key=os.environ.get("OMLX_API_KEY", ""),
    )
    run(settings, model)


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
            file, models_folder=_home() / "models", name=name, dtype=ImportType(type_name), force=force, progress=show
        )
    click.echo(f"Imported {folder.name} into {folder}")


def _home() -> Path:
    return Path(os.environ.get("OMLX_HOME") or Path.home() / ".omlx")


def main() -> None:
    try:
        commands(prog_name="omlx")
    except OmlxError as error:
        click.echo(f"omlx: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
