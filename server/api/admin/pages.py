"""The pages under `/admin`: templates filled from the same values that the API answers with.

A page shows itself to a session alone; anybody else is sent to the log-in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from ...errors import NotFound, OmlxError
from ...models.catalog import ModelEntry
from ...settings.keys import Key, model_keys
from ..agents import known_agents
from . import cache, models, settings, status
from .checks import CheckKind
from .context import AdminContext
from .rendering import ASSETS, asset, render

Values = Mapping[str, object]
Data = Callable[[AdminContext, Request], Awaitable[Values]]
MENU = {
    "": "Status",
    "models": "Models",
    "chat": "Chat",
    "agents": "Agents",
    "cache": "Cache",
    "checks": "Probe",
    "logs": "Log",
    "settings": "Settings",
    "keys": "Keys",
}
"""Each page's path below /admin, and its title."""
_WEEK = "public, max-age=604800, immutable"


def open_routes(context: AdminContext) -> list[HTTPRouteHandler]:
    @get("/login")
    async def login(request: Request) -> Response[bytes]:
        if context.access.session_of(request) is not None:
            return _see("/admin")
        return _html(
            render(request, "login.jinja", has_key=context.access.has_key, csrf="", page="login", title="Log in")
        )

    @get("/static/{digest:str}/{name:str}")
    async def static(digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
        if name not in ASSETS or digest != asset(name).digest:
            raise NotFound(f"there is no {name}")
        found = asset(name)
        return Response(found.body, media_type=found.media_type, headers={"cache-control": _WEEK})

    @get("/")
    async def home(request: Request) -> Response[bytes]:
        return await _page(context, request, "", _status)

    @get([f"/{name}" for name in _PAGES])
    async def page(request: Request) -> Response[bytes]:
        name = request.url.path.rstrip("/").rpartition("/")[2]
        return await _page(context, request, name, _PAGES[name])

    @get("/models/{model_id:path}")
    async def model(request: Request, model_id: FromPath[str]) -> Response[bytes]:
        return await _page(context, request, "model", _model_of(model_id.removeprefix("/")))

    @get("/parts/{part:str}")
    async def part(request: Request, part: FromPath[str], level: FromQuery[status.Level] = "INFO") -> Response[bytes]:
        """A piece of a page that is asked for again and again."""
        if context.access.session_of(request) is None:
            return Response(b"", headers={"hx-redirect": "/admin/login"}, media_type="text/html")
        if part not in _PARTS:
            raise NotFound(f"there is no part {part}")
        values = await _PARTS[part](context, request)
        return _html(render(request, f"parts/{part}.jinja", level=level, **values))

    return [login, static, home, page, model, part]


async def _page(context: AdminContext, request: Request, name: str, data: Data) -> Response[bytes]:
    session = context.access.session_of(request)
    if session is None:
        return _see("/admin/login")
    try:
        values = await data(context, request)
    except OmlxError as error:
        return _html(_framed(request, "problem.jinja", name, session.csrf, problem=str(error)))
    return _html(_framed(request, f"{name or 'status'}.jinja", name, session.csrf, **values))


def _framed(request: Request, template: str, name: str, csrf: str, **values: object) -> bytes:
    return render(request, template, menu=MENU, page=name, title=MENU.get(name, "Models"), csrf=csrf, **values)


async def _status(context: AdminContext, _: Request) -> Values:
    ledger = context.server.ledger
    live = ledger.live()
    troubles = status.troubles(context.server.pool)
    return {"status": status.status(context), "troubles": troubles, "live": live, "ended": ledger.ended()[:15]}


async def _models(context: AdminContext, _: Request) -> Values:
    return {"models": await asyncio.to_thread(models.views, context), "downloads": context.downloads.views()}


def _model_of(model_id: str) -> Data:
    async def data(context: AdminContext, _: Request) -> Values:
        entry = context.server.pool.entry(model_id)
        model = await asyncio.to_thread(models.view, context, entry)
        values = msgspec.to_builtins(model.settings)
        fields = [(key, key.path[-1], values[key.path[-1]], _kind(key)) for key in model_keys(entry.id)]
        return {"model": model, "fields": fields, "unset": await asyncio.to_thread(_unset, context, entry)}

    return data


def _unset(context: AdminContext, entry: ModelEntry) -> Mapping[str, object]:
    """What holds where a setting names nothing, by the setting's name; reads the model's tokenizer: for a thread."""
    try:
        text = context.server.text_of(entry.id)
    except OmlxError:  # it writes no text, or its folder lacks something: its requests say what
        return {}
    formats = {"reasoning_parser": text.formats.announced_reasoning, "tool_parser": text.formats.tools}
    return {**asdict(text.generation_defaults), **formats, "max_context_window": text.context_window}


def _kind(key: Key) -> str:
    """What kind of field a setting gets: a check box for what is true or false, a choice where that may be open, and
    where there are names to choose from."""
    text = str(key.type)
    if key.choices:
        return "names"
    if "bool" in text:
        return "choice" if "None" in text else "check"
    return "text" if "str" in text else "number"


async def _agents(context: AdminContext, _: Request) -> Values:
    return {"agents": known_agents(), "seen": context.server.ledger.last_seen}


async def _cache(context: AdminContext, _: Request) -> Values:
    return {"cache": await cache.view(context), "ended": context.server.ledger.ended()[:30]}


async def _checks(context: AdminContext, _: Request) -> Values:
    last = {check.kind: check for check in context.checks.last}
    names = [entry.id for entry in context.server.pool.entries]
    return {"probe": last.get(CheckKind.PROBE), "bench": last.get(CheckKind.BENCH), "names": names}


async def _logs(context: AdminContext, request: Request) -> Values:
    level = request.query_params.get("level", "INFO")
    known = level if level in ("INFO", "WARNING", "ERROR") else "INFO"
    return {"lines": context.logs.lines(known, limit=300)}


async def _settings(context: AdminContext, _: Request) -> Values:
    return {"settings": settings.views(context), "file": str(context.settings.settings_file)}


async def _keys(context: AdminContext, _: Request) -> Values:
    return {"keys": context.keys.described(), "sessions": context.access.sessions.live()}


async def _chat(context: AdminContext, _: Request) -> Values:
    return {"names": [entry.id for entry in context.server.pool.entries]}


_PAGES: dict[str, Data] = {
    "models": _models,
    "chat": _chat,
    "agents": _agents,
    "cache": _cache,
    "checks": _checks,
    "logs": _logs,
    "settings": _settings,
    "keys": _keys,
}
_PARTS: dict[str, Data] = {"status": _status, "models": _models, "checks": _checks, "logs": _logs}


def _html(body: bytes) -> Response[bytes]:
    return Response(body, media_type="text/html")


def _see(path: str) -> Response[bytes]:
    return Response(b"", status_code=303, headers={"location": path}, media_type="text/html")
