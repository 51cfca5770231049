"""`omlx pull`: a model from the hub."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..engine.blas import has_own_gpu
from ..models.device_memory import device_memory
from ..models.downloading import DownloadProgress
from ..models.hub import Hub, Pulled, PullRequest, check_weights_fit, pull
from ..settings.now import settings_now
from ..terminal import Bar, duration_text, json_option, print_json, size_text


@click.command("pull")
@click.argument("repo")
@click.option("--revision", help="A branch, tag or commit.  [default: the newest]")
@click.option("--name", metavar="NAME", help="What it is called here, NAME or ORG/NAME.  [default: REPO]")
@click.option("--force", is_flag=True, help="Download it though this machine's memory cannot hold it.")
@json_option
def command(repo: str, revision: str | None, name: str | None, force: bool, as_json: bool) -> None:
    """Download REPO, such as mlx-community/SmolLM2-135M-Instruct, into the first of the model folders.

    Only what a model needs is fetched: safetensors weights, config, tokenizer, templates; no code, no pickles. Free
    disk and memory are looked at first, and every file is compared with the hub's hash. What is stopped goes on from
    there when it is started again. HF_TOKEN opens gated models; HF_ENDPOINT names another hub.
    """
    request = PullRequest(repo, revision, name)
    try:
        with Bar(sys.stderr) as bar:
            pulled = pull(
                request,
                settings_now(os.environ).model_dirs[0],
                Hub.of(os.environ),
                report=lambda progress: _draw(bar, repo, progress),
                check_fit=(lambda _folder, _bytes: None) if force else _check_fit,
            )
    except KeyboardInterrupt:
        click.echo(f"omlx: stopped; what is there stays, and `{request.command}` goes on from it", err=True)
        sys.exit(130)
    if as_json:
        print_json(
            {
                "repo": pulled.repo,
                "commit": pulled.commit,
                "path": str(pulled.path),
                "size_bytes": pulled.size_bytes,
                "is_new": pulled.is_new,
            }
        )
    else:
        _tell(pulled)


def _draw(bar: Bar, repo: str, progress: DownloadProgress) -> None:
    share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 1.0
    rate = f"  {size_text(progress.bytes_per_second)}/s" if progress.bytes_per_second else ""
    left = f"  {duration_text(progress.seconds_left)} left" if progress.seconds_left else ""
    amount = f"{size_text(progress.done_bytes)} of {size_text(progress.total_bytes)}"
    bar(share, f"{amount}, {progress.done_files} of {progress.total_files} files{rate}{left}  {repo}")


def _tell(pulled: Pulled) -> None:
    did = "Downloaded" if pulled.is_new else "There is nothing newer:"
    click.echo(f"{did} {pulled.repo}, {size_text(pulled.size_bytes)}, commit {pulled.commit[:7]}, in {pulled.path}")


def _check_fit(folder: Path, weight_bytes: int) -> None:
    del folder
    check_weights_fit(weight_bytes, device_memory(has_own_gpu()), "--force")
