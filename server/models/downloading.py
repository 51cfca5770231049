"""Several files at once from the hub into a folder: resumed, checked against their hashes, and told of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

from ..errors import DownloadCancelled, DownloadFailed
from .hub_client import Hub, Listing
from .hub_files import RemoteFile

_CONNECTIONS = 4
_REPORTS_PER_SECOND = 5
_RATE_WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """Bytes and files, those that were there already included; the rate and the time left as of lately, None early."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int
    bytes_per_second: float | None = None
    seconds_left: float | None = None


Report = Callable[[DownloadProgress], None]


class _Meter:
    """Counts what several threads fetch, and tells of it now and then."""

    def __init__(
        self, files: Sequence[RemoteFile], report: Report, is_cancelled: Callable[[], bool], clock: Callable[[], float]
    ) -> None:
        self._total = sum(file.size for file in files)
        self._num_files = len(files)
        self._report = report
        self._is_cancelled = is_cancelled
        self._clock = clock
        self._lock = Lock()
        self._done = self._done_files = 0
        self._samples: list[tuple[float, int]] = []
        self._told = 0.0
        self.is_stopped = False

    def found(self, num_bytes: int) -> None:
        """Bytes that were there already."""
        with self._lock:
            self._done += num_bytes
            self._samples = []

    def add(self, num_bytes: int) -> None:
        """Raises `DownloadCancelled`."""
        if self.is_stopped or self._is_cancelled():
            raise DownloadCancelled("the download is stopped; what is there stays, and the next one goes on from it")
        with self._lock:
            self._done += num_bytes
            now = self._clock()
            self._samples.append((now, self._done))
            while now - self._samples[0][0] > _RATE_WINDOW_SECONDS:
                del self._samples[0]
            if now - self._told >= 1 / _REPORTS_PER_SECOND:
                self._told = now
                self._report(self._progress())

    def end_file(self) -> None:
        with self._lock:
            self._done_files += 1
            self._report(self._progress())

    def _progress(self) -> DownloadProgress:
        rate = None
        if len(self._samples) > 1:
            (since, before), (now, after) = self._samples[0], self._samples[-1]
            rate = (after - before) / (now - since) if now > since else None
        left = (self._total - self._done) / rate if rate else None
        return DownloadProgress(self._done, self._total, self._done_files, self._num_files, rate, left)


@dataclass(frozen=True, slots=True)
class Download:
    """From where, to where, who is told, and who may stop it. `report` is called from several threads, in turn."""

    hub: Hub
    listing: Listing
    folder: Path
    report: Report
    is_cancelled: Callable[[], bool]


def fetch_all(download: Download, files: Sequence[RemoteFile], clock: Callable[[], float] = monotonic) -> None:
    """Fetch `files`, some at once; those that are there whole stay.

    The first failure stops the others, whose bytes stay. Raises `DownloadCancelled`, `DownloadFailed`.
    """
    meter = _Meter(files, download.report, download.is_cancelled, clock)
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="download") as threads:
        running = [threads.submit(_fetch, download, file, meter) for file in files]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
        finally:  # the threads end at their next piece, also on Ctrl-C
            meter.is_stopped = True
            threads.shutdown(cancel_futures=True)


def _fetch(download: Download, file: RemoteFile, meter: _Meter) -> None:
    place = download.folder / file.name
    if place.exists() and place.stat().st_size == file.size and is_whole(place, file):
        meter.found(file.size)
        meter.end_file()
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.part-{(file.hash or download.listing.commit)[:12]}")
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    meter.found(part.stat().st_size if part.exists() else 0)
    meter.add(0)
    download.hub.fetch(download.listing, file, part, meter.add)
    if part.stat().st_size != file.size or not is_whole(part, file):
        part.unlink()
        raise DownloadFailed(f"{file.name} of {download.listing.repo} came damaged, and is thrown away; try again")
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(place)
    meter.end_file()


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether the file's bytes are those that the hub names; true where it names no hash."""
    with path.open("rb") as opened:
        if file.sha256 is not None:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
        if file.git_sha1 is not None:
            header = f"blob {file.size}\0".encode()
            return hashlib.sha1(header + opened.read(), usedforsecurity=False).hexdigest() == file.git_sha1
    return True
