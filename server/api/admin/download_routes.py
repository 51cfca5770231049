"""Starting, watching and stopping downloads."""

from __future__ import annotations

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from .context import AdminContext, answer_with, decoded


class StartDownload(msgspec.Struct, frozen=True):
    """`repo` is `organization/name`, `revision` a branch, tag or commit, the newest without one. `force`
    has it though this machine's memory cannot hold it."""

    repo: str
    revision: str | None = None
    force: bool = False


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    downloads = context.downloads

    @get("/api/downloads")
    async def get_downloads() -> Response[bytes]:
        return answer_with(downloads.views())

    @post("/api/downloads", status_code=202)
    async def start_download(request: Request) -> Response[bytes]:
        wanted = await decoded(request, StartDownload)
        return answer_with(downloads.start(wanted.repo.strip(), wanted.revision, force=wanted.force), 202)

    @delete("/api/downloads/{repo:path}", status_code=200)
    async def stop_download(repo: FromPath[str]) -> Response[bytes]:
        await downloads.stop(repo.removeprefix("/"))
        return answer_with(downloads.views())

    return [get_downloads, start_download, stop_download]
