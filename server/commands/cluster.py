"""`omlx cluster`: before a model runs on several machines."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ..engine.blas import has_own_gpu
from ..errors import ModelNotFound, SettingsError
from ..models.catalog import model_folders
from ..models.device_memory import device_memory, shared_memory
from ..models.folder import context_window, read_config
from ..models.hosts import BACKENDS, HostFile
from ..models.hub import Hub, pull_headers
from ..models.split import Split
from ..settings.now import settings_now
from ..terminal import columns, json_option, print_json, size_text

_hosts_option = click.option(
    "--hosts", "hosts_path", type=click.Path(path_type=Path), required=True, help="The host file of mlx.launch."
)


@click.group("cluster")
def command() -> None:
    """Plan and check a model's run on several machines."""


@command.command(short_help="Say what each machine would hold of MODEL.")
@click.argument("model")
@_hosts_option
@click.option("--window", type=click.IntRange(1), help="Tokens of one conversation.  [default: what the model holds]")
@click.option("--split", type=click.Choice([split.value for split in Split]), default="auto", show_default=True)
@json_option
def plan(model: str, hosts_path: Path, window: int | None, split: str, as_json: bool) -> None:
    """Say what each machine would hold of MODEL, a folder, a model of yours or a repository of the hub, and whether it
    fits. Only headers are read, or downloaded.

    Beside "ssh" and "ips" a host may have "memory_gb"; without it, it is taken to have as much as this machine.
    """
    hosts = HostFile.read(hosts_path).hosts
    folders = dict(model_folders(settings_now(os.environ).model_dirs))
    folder = folders.get(model) or Path(model)
    if not (folder / "config.json").is_file():
        folder = _from_hub(model, list(folders))
    from ..models.lean_mlx_lm import use_lean_mlx_lm

    use_lean_mlx_lm()
    from ..models.shares import shares

    window = window or context_window(read_config(folder))
    taken, parts = shares(folder, len(hosts), Split(split), window)
    here = device_memory(has_own_gpu())
    usable = [shared_memory(host.memory_bytes).usable if host.memory_bytes else here.usable for host in hosts]
    fits = [part.total_bytes <= memory for part, memory in zip(parts, usable, strict=True)]
    if as_json:
        rows = [
            {"rank": rank, "host": host.name, **asdict(part), "usable_bytes": memory, "fits": fit}
            for rank, (host, part, memory, fit) in enumerate(zip(hosts, parts, usable, fits, strict=True))
        ]
        print_json({"model": model, "window": window, "split": taken, "ranks": rows})
    else:
        table = [["rank", "host", "weights", "keys and values", "work", "together", "usable", "fits"]]
        for rank, (host, part, memory, fit) in enumerate(zip(hosts, parts, usable, fits, strict=True)):
            sizes = (part.weight_bytes, part.kv_bytes, part.transient_bytes, part.total_bytes, memory)
            table.append([str(rank), host.name, *map(size_text, sizes), "yes" if fit else "no"])
        click.echo(f"{model}, {taken} parallel, one conversation of {window} tokens")
        click.echo(columns(table))
    sys.exit(0 if all(fits) else 1)


def _from_hub(model: str, known: list[str]) -> Path:
    """The model's texts and headers, in a folder that goes when the command ends."""
    if model.startswith((".", "/")) or model.count("/") != 1:
        raise ModelNotFound(model, known)
    folder = Path(click.get_current_context().with_resource(TemporaryDirectory()), "model")
    pull_headers(model, folder, Hub.of(os.environ))
    return folder


@command.command(short_help="Reach every machine, and compare and time them.")
@_hosts_option
@click.option("--backend", type=click.Choice(BACKENDS), help="MLX's back end.  [default: the host file's, or ring]")
@json_option
def check(hosts_path: Path, backend: str | None, as_json: bool) -> None:
    """Reach every machine, compare versions, and time a sum over all of them.

    Every machine needs the same omlx in the same place; ssh must get in without asking.
    """
    from ..cluster_check import Report, check_group, unreachable

    file = HostFile.read(hosts_path)
    away = unreachable(file.hosts)
    if away:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in away.items())
        raise SettingsError(f"not all hosts can be reached over ssh: {reasons}")
    report: Report = check_group(file, backend or file.backend)
    if as_json:
        print_json({"differences": report.differences, **asdict(report)})
    else:
        names = list(report.ranks[0])
        rows = [[str(rank), *(facts[name] for name in names)] for rank, facts in enumerate(report.ranks)]
        click.echo(columns([["rank", *names], *rows]))
        click.echo(
            f"A sum over all of them takes {report.latency_seconds * 1e3:.2f} ms for 1 KB, and runs at "
            f"{size_text(report.bytes_per_second)}/s for 32 MB."
        )
        for difference in report.differences:
            click.echo(f"Not the same everywhere: {difference}. Install the same version on all.")
    sys.exit(1 if report.differences else 0)
