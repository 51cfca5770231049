"""What the admin routes need beside the other routes' context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from litestar import Request, Response

from ...errors import InvalidRequest
from ...log_ring import LogRing
from ...models.folder_watch import rescan
from ...settings import ServeSettings
from ..context import Context
from ..keys import ServerKeys
from ..refusals import Refusals
from .access import AdminAccess
from .checks import Checks
from .downloads import Downloads
from .history import History

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdminContext:
    server: Context
    settings: ServeSettings
    keys: ServerKeys
    access: AdminAccess
    logs: LogRing
    history: History
    downloads: Downloads
    checks: Checks

    @classmethod
    def of(
        cls, server: Context, settings: ServeSettings, keys: ServerKeys, logs: LogRing, refusals: Refusals
    ) -> AdminContext:
        return cls(
            server=server,
            settings=settings,
            keys=keys,
            access=AdminAccess(keys, refusals),
            logs=logs,
            history=History(server.pool, server.ledger),
            downloads=Downloads(
                settings.model_dirs[0], server.pool.memory, lambda: rescan(server.pool, settings.model_dirs)
            ),
            checks=Checks(settings.home),
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While the server runs: the log is kept, samples are taken; what was started from the pages ends with it."""
        with self.logs.attached():
            sampling = asyncio.create_task(self.history.run())
            try:
                yield
            finally:
                sampling.cancel()
                await self.checks.cancel()
                await self.downloads.close()


T = TypeVar("T")


def answer_with(value: object, status_code: int = 200) -> Response[bytes]:
    """The value as JSON: dataclasses and structs by their fields."""
    return Response(msgspec.json.encode(value), status_code=status_code, media_type="application/json")


async def decoded(request: Request, kind: type[T]) -> T:
    """The body as a value of this kind. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not what this route takes: {error}") from None


def log_change(what: str, changes: Mapping[str, object]) -> None:
    """Which settings were changed; not to what, since a value may be the owner's alone."""
    names = (name if value is not None else f"{name} (unset)" for name, value in sorted(changes.items()))
    if changes:
        logger.info("%s changed, as asked: %s", what, ", ".join(names))
