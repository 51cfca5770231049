"""`pull`: a repository of the model hub becomes a model folder.

What can be refused is refused before the weights are fetched; what was fetched stays when it is stopped, and the
next time goes on from there; the folder appears whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ..errors import CorruptModel, DownloadFailed, ModelError, UnsupportedModel
from ..terminal import size_text
from .catalog import read_entry
from .device_memory import DeviceMemory
from .downloading import Download, Report, fetch_all
from .folder import read_config, read_json_object
from .hub_client import Hub, Listing
from .hub_files import INDEX_FILE, RemoteFile, checked_repo, text_files, weight_files
from .part_folder import PART_FILE, whole_name
from .placing import checked_id, make_models_folder, put_in_place, write_synced
from .safetensors_file import MAX_HEADER_BYTES, header_bytes, read_header

SOURCE_FILE = ".omlx_source.json"
REQUEST_FILE = ".omlx_request.json"
"""Beside the parts of a download: what was asked for, so that whoever goes on asks for the same."""
_SPARE_BYTES = 256 << 20
_SHA256_DIGITS = 64

CheckFit = Callable[[Path, int], None]
"""Looks at a folder with a model's texts, and the bytes its weights take; raises `ModelError` where they don't fit."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`revision` is a branch, tag or commit; without it the newest. `name` is the model's id here, else `repo`."""

    repo: str
    revision: str | None = None
    name: str | None = None

    @property
    def model_id(self) -> str:
        return self.name or self.repo

    @property
    def command(self) -> str:
        """What starts it, or goes on with it, in a shell."""
        options = {"--revision": self.revision, "--name": self.name}
        given = [word for option, value in options.items() if value is not None for word in (option, value)]
        return shlex.join(["omlx", "pull", self.repo, *given])


@dataclass(frozen=True, slots=True)
class Pulled:
    """`is_new` is false where the folder was there already, at that very commit."""

    path: Path
    repo: str
    commit: str
    size_bytes: int
    is_new: bool


class Source(msgspec.Struct, frozen=True):
    """What a pulled folder says of where it is from: the files with their hashes."""

    repo: str
    commit: str
    files: dict[str, str]


def pull(
    request: PullRequest,
    models_folder: Path,
    hub: Hub,
    *,
    report: Report = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
    check_fit: CheckFit = lambda _folder, _bytes: None,
) -> Pulled:
    """Download a model to `models_folder`. Blocks; safe to call in a thread.

    `report` is told of the progress some times a second, from other threads. Raises `DownloadCancelled` when
    `is_cancelled` says so, `DownloadFailed`, and other `ModelError`s for what omlx cannot use or hold.
    """
    repo = checked_repo(request.repo)
    target = models_folder / checked_id(request.model_id)
    listing = hub.listing(repo, request.revision)
    texts = text_files(repo, listing.files)
    if (present := _present(target, listing)) is not None:
        return present
    make_models_folder(models_folder)
    with _work_folder(target) as work:
        (work / REQUEST_FILE).write_bytes(msgspec.json.encode(request))
        download = Download(hub, listing, work, report, is_cancelled)
        weights = _chosen_weights(download, texts, check_fit)
        _reuse(target, work, weights)
        _check_space(work, weights)
        fetch_all(download, (*texts, *weights))
        read_entry(work, repo)
        _finish(download, (*texts, *weights))
        put_in_place(work, target)
    return Pulled(target, repo, listing.commit, sum(file.size for file in weights), is_new=True)


def pull_headers(repo: str, target: Path, hub: Hub) -> None:
    """Make `target` a folder with the texts and the headers of a model, whose weights `fetch_weights` can fetch.

    One that is there stays at its commit. Raises as `pull`.
    """
    repo = checked_repo(repo)
    if whole_name(target) is not None:
        return
    listing = hub.listing(repo, None)
    texts = text_files(repo, listing.files)
    with _work_folder(target) as work:
        download = Download(hub, listing, work, lambda _: None, lambda: False)
        weights = _chosen_weights(download, texts, lambda _folder, _bytes: None)
        for file in weights:
            (work / file.name).write_bytes(_header(hub, listing, file))
            read_header(work / file.name, may_lack_data=True)
        _finish(download, (*texts, *weights))
        whole = msgspec.json.encode([listing.repo, listing.commit, sorted(file.hash for file in weights)])
        write_synced(work / PART_FILE, whole)
        put_in_place(work, target)


def fetch_weights(folder: Path, names: Sequence[str], hub: Hub, report: Report) -> None:
    """Download these weight files of a folder that `pull_headers` made. What is there of them is gone on from.

    Raises `DownloadFailed`, `ModelError`.
    """
    source = read_source(folder)
    if source is None:
        raise CorruptModel(f"{folder}: does not say where it is from any more; remove it, and start again")
    files = [_remote_file(folder / name, source.files[name]) for name in names]
    _check_space(folder, files)
    listing = Listing(source.repo, source.commit, tuple(files))
    try:
        fetch_all(Download(hub, listing, folder, report, lambda: False), files)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}") from error


def _header(hub: Hub, listing: Listing, file: RemoteFile) -> bytes:
    """A safetensors file up to the end of its header. Raises `CorruptModel`."""
    length = int.from_bytes(hub.read_start(listing, file, 8), "little")
    if length > min(file.size, MAX_HEADER_BYTES):
        raise CorruptModel(f"{file.name} of {listing.repo}: no safetensors file; choose another repository")
    return hub.read_start(listing, file, 8 + length)


def _remote_file(path: Path, digest: str) -> RemoteFile:
    """The hub's file whose header lies at `path`."""
    size = header_bytes(path) + read_header(path, may_lack_data=True).size_bytes
    is_sha256 = len(digest) == _SHA256_DIGITS
    return RemoteFile(path.name, size, digest if is_sha256 else None, None if is_sha256 else digest)


def check_weights_fit(weight_bytes: int, memory: DeviceMemory, force: str) -> None:
    """Raises `ModelError` where the weights alone are more than models may take; `force` says how to have it anyway."""
    if weight_bytes > memory.usable:
        raise ModelError(
            f"its weights take {size_text(weight_bytes)}, and the server loads at most {size_text(memory.usable)} of "
            f"this machine's {size_text(memory.total)}; choose a smaller one or stronger quantization, or give {force}"
        )


def discard(request: PullRequest, models_folder: Path) -> bool:
    """Remove what a stopped download left; says whether there was any. Raises `DownloadFailed` while it runs."""
    target = models_folder / checked_id(request.model_id)
    work = _work_path(target)
    if not work.is_dir():
        return False
    with _work_folder(target):
        shutil.rmtree(work)
    return True


def stopped_downloads(models_folder: Path) -> list[tuple[PullRequest, Path]]:
    """The downloads that were stopped, or go on just now: what was asked for, and where their parts lie."""
    found = sorted((*models_folder.glob(".*.downloading"), *models_folder.glob("*/.*.downloading")))
    return [(_request_of(path, models_folder), path) for path in found]


def _request_of(work: Path, models_folder: Path) -> PullRequest:
    """As the folder's note says; by the folder's name where an older omlx left it, or the note is another model's."""
    target = work.with_name(work.name[1:].removesuffix(".downloading"))
    model_id = str(target.relative_to(models_folder))
    try:
        noted = msgspec.json.decode((work / REQUEST_FILE).read_bytes(), type=PullRequest)
    except (OSError, msgspec.DecodeError):
        return PullRequest(model_id)
    return noted if noted.model_id == model_id else PullRequest(model_id)


def read_source(folder: Path) -> Source | None:
    """Where a model's folder was pulled from; None where it was not, or does not say."""
    try:
        return msgspec.json.decode((folder / SOURCE_FILE).read_bytes(), type=Source)
    except (OSError, msgspec.DecodeError):
        return None


def _present(target: Path, listing: Listing) -> Pulled | None:
    """The folder that is there, where it is of the listing's commit."""
    if not target.exists():
        return None
    source = read_source(target)
    if source is None:
        raise ModelError(f"{target} is there, and not from the hub; move it away, or choose another --name")
    if source.repo != listing.repo:
        raise ModelError(f"{target} holds {source.repo}; remove it first, or choose another --name")
    if source.commit != listing.commit:
        return None
    return Pulled(target, source.repo, source.commit, read_entry(target, source.repo).size_bytes, is_new=False)


def _work_path(target: Path) -> Path:
    return target.parent / f".{target.name}.downloading"


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """The folder where the parts lie until all are there; ours alone. Raises `DownloadFailed`, `ModelError`."""
    work = _work_path(target)
    try:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY)
    except OSError as error:
        raise ModelError(f"{work} cannot be made ({error.strerror}); correct its permissions, or --model-dir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield work
    except BlockingIOError:
        raise DownloadFailed(f"{target.name} is being downloaded by another process; wait for it") from None
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


def _chosen_weights(download: Download, texts: Sequence[RemoteFile], check_fit: CheckFit) -> tuple[RemoteFile, ...]:
    """Fetch the texts, and choose the weights by them. A model that is refused leaves nothing behind."""
    repo, work = download.listing.repo, download.folder
    fetch_all(replace(download, report=lambda _: None), texts)
    try:
        if "model_file" in read_config(work):
            raise UnsupportedModel(f"{repo}: wants its own code run, which omlx never does")
        weight_map = read_json_object(work / INDEX_FILE).get("weight_map", {})
        if not isinstance(weight_map, dict):
            raise CorruptModel(f"{repo}: the weight_map of its index is not an object")
        weights = weight_files(repo, download.listing.files, map(str, weight_map.values()))
        check_fit(work, sum(file.size for file in weights))
    except ModelError:
        if not list(work.glob("*.safetensors*part*")):
            shutil.rmtree(work)
        raise
    return weights


def _reuse(target: Path, work: Path, weights: Sequence[RemoteFile]) -> None:
    """Take over the weights that an older commit's folder holds already."""
    source = read_source(target)
    for file in weights:
        if source is not None and file.hash and source.files.get(file.name) == file.hash:
            (work / file.name).unlink(missing_ok=True)
            os.link(target / file.name, work / file.name)


def _check_space(work: Path, weights: Sequence[RemoteFile]) -> None:
    names = {file.name for file in weights}
    have = sum(path.stat().st_size for path in work.iterdir() if path.name.partition(".part-")[0] in names)
    missing = max(0, sum(file.size for file in weights) - have)
    free = shutil.disk_usage(work).free
    if missing + _SPARE_BYTES > free:
        raise ModelError(
            f"{work.parent} has {size_text(free)} free, and {size_text(missing)} are to be downloaded; "
            "make room with `omlx rm`, or choose another --model-dir"
        )


def _finish(download: Download, files: Sequence[RemoteFile]) -> None:
    """Leave nothing in the folder but the model's files, and the note of where they are from."""
    work, listing = download.folder, download.listing
    names = {file.name for file in files}
    for path in work.rglob("*"):
        if path.is_file() and str(path.relative_to(work)) not in names:
            path.unlink()
    source = Source(listing.repo, listing.commit, {file.name: file.hash for file in files})
    write_synced(work / SOURCE_FILE, msgspec.json.format(msgspec.json.encode(source), indent=2))
