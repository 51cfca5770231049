"""`omlx import`: a GGUF file becomes a model folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..settings.now import settings_now
from ..terminal import Bar, json_option, print_json, size_text


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--name", default=None, metavar="NAME", help="What it is called here, NAME or ORG/NAME.  [default: from the file's]"
)
@click.option(
    "--type",
    "type_name",
    type=click.Choice(["auto", "keep", "float32", "bfloat16", "4bit", "8bit"]),
    default="auto",
    show_default=True,
    help="How the weights are stored. auto: float32 where MLX has only a CPU, else as in the file.",
)
@click.option("--force", is_flag=True, help="Replace a model of the same name.")
@json_option
def command(file: Path, name: str | None, type_name: str, force: bool, as_json: bool) -> None:
    """Turn a GGUF file of the Llama family into a model in the first of the model folders."""
    from ..models.importing import ImportType, import_gguf

    with Bar(sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar(done / total, f"{size_text(done)} of {size_text(total)}  {file.name}")

        folder = import_gguf(
            file,
            models_folder=settings_now(os.environ).model_dirs[0],
            name=name,
            dtype=ImportType(type_name),
            force=force,
            progress=show,
        )
    model = name or folder.name
    if as_json:
        print_json({"model": model, "path": str(folder)})
    else:
        click.echo(f"Imported {model} into {folder}")
