"""`omlx convert`: a model in fewer bits."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..errors import ModelNotFound
from ..model_places import complete_model
from ..models.catalog import model_folders
from ..models.hub import Hub, PullRequest, pull
from ..models.mtp import mtp_report
from ..models.placing import make_models_folder
from ..settings.now import settings_now
from ..terminal import Bar, json_option, print_json, size_text

# A layer of 576 x 1536, 64 tokens, OpenBLAS on a thread: 2.1 ms in float32, 66 packed in 4 bits, 404 with bfloat16
_SLOW_HERE = (
    "omlx: MLX has only a CPU here, where packed weights read a prompt 30 times as slowly as float32, or worse; "
    "they are for a machine with a GPU"
)


@click.command("convert")
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--bits",
    type=click.Choice(["4", "8", "mxfp4"]),
    default="4",
    show_default=True,
    help="How the weights are packed; what is packed in as few already stays as it is.",
)
@click.option("--keep-mtp", is_flag=True, help="Keep the MTP layer, where there is one.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The new folder.  [default: beside the models, MODEL-4bit]"
)
@json_option
def command(model: str, bits: str, keep_mtp: bool, out: Path | None, as_json: bool) -> None:
    """Pack the weights of MODEL in fewer bits: a folder, a model of yours, or a repository of the hub.

    The original stays as it is. Memory holds a shard of the new weights at a time. What is stopped goes on from the
    last whole shard when it is started again, and the folder appears when everything was read back.
    """
    from ..models.converting import Conversion, convert
    from ..models.quantizing import Bits, has_only_a_cpu

    folders = settings_now(os.environ).model_dirs
    source, name = _source(model, folders)
    if has_only_a_cpu():
        click.echo(_SLOW_HERE, err=True)
    if out is None:
        make_models_folder(folders[0])
    target = out or folders[0] / f"{name}-{Bits(bits).suffix}"
    try:
        with Bar(sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar(done / total, f"{size_text(done)} of {size_text(total)}  {target.name}")

            converted = convert(Conversion(source, target, Bits(bits), keep_mtp), show)
    except KeyboardInterrupt:
        click.echo("omlx: stopped; what is there stays, and the same command goes on from it", err=True)
        sys.exit(130)
    if as_json:
        found = {"path": str(converted.path), "size_bytes": converted.size_bytes, "has_mtp": converted.has_mtp}
        print_json(found)
        return
    click.echo(f"Converted {source} to {size_text(converted.size_bytes)} in {converted.path}")
    if converted.left_mtp:
        click.echo("Its MTP layer was left out; --keep-mtp keeps it")
    elif keep_mtp and not converted.has_mtp:
        click.echo(f"No MTP layer was kept: {mtp_report(source).reason}")


def _source(model: str, folders: Sequence[Path]) -> tuple[Path, str]:
    """The folder to convert, and the name it has; one from the hub is downloaded first."""
    if Path(model).is_dir():
        return Path(model), Path(model).resolve().name
    here = dict(model_folders(folders))
    if model in here:
        return here[model], model
    if model.count("/") != 1 or model.startswith((".", "/")):  # no repository of the hub is called so
        raise ModelNotFound(model, sorted(here))
    with Bar(sys.stderr) as bar:
        pulled = pull(
            PullRequest(model),
            folders[0],
            Hub.of(os.environ),
            report=lambda progress: bar(progress.done_bytes / max(1, progress.total_bytes), f"downloading {model}"),
        )
    return pulled.path, pulled.repo
