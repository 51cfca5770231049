"""Downloads of models: started, watched, stopped and resumed from the pages; one thread each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from threading import Event

from ...errors import (
    Conflict,
    DownloadCancelled,
    DownloadFailed,
    InvalidRequest,
    ModelError,
    NotFound,
    OmlxError,
    UnsupportedModel,
)
from ...models.device_memory import DeviceMemory
from ...models.downloading import DownloadProgress
from ...models.hub import Hub, PullRequest, check_weights_fit, discard, pull, stopped_downloads
from ...models.hub_files import checked_repo

logger = logging.getLogger(__name__)

_MAX_KEPT = 20
_CLOSE_SECONDS = 5.0


class DownloadState(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    """What has come is kept; starting it again goes on from there."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DownloadView:
    """`repo` is the model's name here, where `omlx pull --name` chose one. Sizes in bytes; the rate and the time left
    are None where nobody can say yet. `error` says why it failed; `can_force` that it did for its size alone, so that
    `force` has it."""

    repo: str
    state: DownloadState
    done_bytes: int
    total_bytes: int
    bytes_per_second: float | None
    seconds_left: float | None
    error: str
    can_force: bool


@dataclass(slots=True)
class _Download:
    request: PullRequest
    is_forced: bool = False
    is_too_large: bool = False
    state: DownloadState = DownloadState.RUNNING
    progress: DownloadProgress = field(default_factory=lambda: DownloadProgress(0, 0, 0, 0))
    error: str = ""
    stop: Event = field(default_factory=Event)
    task: asyncio.Task[None] | None = None

    def view(self) -> DownloadView:
        progress = self.progress
        return DownloadView(
            self.request.model_id,
            self.state,
            progress.done_bytes,
            progress.total_bytes,
            progress.bytes_per_second,
            progress.seconds_left,
            self.error,
            self.is_too_large,
        )


class Downloads:
    """`folder` is where the models go, and `memory` what they have to fit; `arrived` is awaited when one is there.

    What was stopped before this server began is there from the start.
    """

    def __init__(self, folder: Path, memory: DeviceMemory, arrived: Callable[[], Awaitable[None]]) -> None:
        self._folder = folder
        self._memory = memory
        self._arrived = arrived
        left = [_left_by_another(request, path) for request, path in stopped_downloads(folder)[:_MAX_KEPT]]
        self._downloads = {download.request.model_id: download for download in left}

    def views(self) -> tuple[DownloadView, ...]:
        return tuple(download.view() for download in self._downloads.values())

    def start(self, repo: str, revision: str | None, *, force: bool = False) -> DownloadView:
        """Start it, or go on with one that was stopped: of its revision, and however large if that one was forced.

        Raises `InvalidRequest` for what names no repository, `Conflict` while it runs, or with so many.
        """
        try:
            checked_repo(repo)
        except UnsupportedModel as error:
            raise InvalidRequest(str(error), "repo") from None
        before = self._downloads.get(repo)
        if before is not None and before.state is DownloadState.RUNNING:
            raise Conflict(f"{repo} is being downloaded already")
        if before is None and len(self._downloads) >= _MAX_KEPT:
            raise Conflict(f"there are {_MAX_KEPT} downloads; discard one first")
        wanted = PullRequest(repo, revision)
        if before is not None and before.state is not DownloadState.DONE:
            wanted = replace(before.request, revision=revision or before.request.revision)
            force = force or before.is_forced
        download = self._downloads[repo] = _Download(wanted, force)
        download.task = asyncio.create_task(self._run(download))
        return download.view()

    async def stop(self, repo: str) -> None:
        """Stop it, keeping what has come; one that does not run is forgotten, with what it left.

        Raises `NotFound`, and `Conflict` where another process goes on with it.
        """
        download = self._downloads.get(repo)
        if download is None:
            raise NotFound(f"there is no download of {repo!r}")
        if download.state is DownloadState.RUNNING:
            download.stop.set()
            return
        del self._downloads[repo]
        if download.state is not DownloadState.DONE:
            try:
                await asyncio.to_thread(discard, download.request, self._folder)
            except DownloadFailed as error:
                self._downloads.setdefault(repo, download)
                raise Conflict(str(error)) from None

    async def close(self) -> None:
        """Stop all of them, and wait."""
        for download in self._downloads.values():
            download.stop.set()
        running = [download.task for download in self._downloads.values() if download.task is not None]
        if running:
            await asyncio.wait(running, timeout=_CLOSE_SECONDS)

    async def _run(self, download: _Download) -> None:
        try:
            await asyncio.to_thread(self._fetch, download)
            download.state = DownloadState.DONE
            await self._arrived()
        except DownloadCancelled:
            download.state = DownloadState.STOPPED
        except OmlxError as error:
            download.state, download.error = DownloadState.FAILED, str(error)
        except Exception as error:
            logger.exception("the download of %s failed", download.request.model_id)
            download.state, download.error = DownloadState.FAILED, f"{type(error).__name__}; the log says more"

    def _fetch(self, download: _Download) -> None:
        def report(progress: DownloadProgress) -> None:
            download.progress = progress

        def check_fit(_: Path, weight_bytes: int) -> None:
            if download.is_forced:
                return
            try:
                check_weights_fit(weight_bytes, self._memory, '"force": true')
            except ModelError:
                download.is_too_large = True
                raise

        pull(
            download.request,
            self._folder,
            Hub.of(os.environ),
            report=report,
            is_cancelled=download.stop.is_set,
            check_fit=check_fit,
        )


def _left_by_another(request: PullRequest, work: Path) -> _Download:
    """One that an earlier server, or `omlx pull`, began. How large the whole is, the hub says when it goes on."""
    have = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    progress = DownloadProgress(have, 0, 0, 0)
    return _Download(request, state=DownloadState.STOPPED, progress=progress)
