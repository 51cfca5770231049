"""The server's settings, each with what is in force, where that is from, and what the file says now."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get, put
from litestar.handlers import HTTPRouteHandler

from ...errors import InvalidRequest, SettingsError
from ...requests import Json
from ...settings.document import Document, locked, write_document
from ...settings.keys import MODELS, find_key, keys
from ...settings.layers import Layer, layered, read_values
from ...settings.loading import load_document
from ...settings.model_store import load_for_writing
from .context import AdminContext, answer_with, decoded, log_change


class SettingView(msgspec.Struct, frozen=True):
    """`value` is in force since the start; `origin` is default, file, environment or command line, and `place` says
    where exactly. `file_value` is what settings.json says now; with `needs_restart` it holds after the next start."""

    name: str
    description: str
    default: Any
    value: Any
    origin: str
    place: str
    file_value: Any
    is_set_in_file: bool
    needs_restart: bool


def routes(context: AdminContext) -> list[HTTPRouteHandler]:
    @get("/api/settings")
    async def get_settings() -> Response[bytes]:
        return answer_with(views(context))

    @put("/api/settings")
    async def change_settings(request: Request) -> Response[bytes]:
        change(context, await decoded(request, dict[str, Any]))
        return answer_with(views(context))

    return [get_settings, change_settings]


def views(context: AdminContext) -> list[SettingView]:
    """Raises `InvalidRequest` where the file cannot be read."""
    path = context.settings.settings_file
    try:
        in_file, _ = read_values(load_document(path)[0])
    except SettingsError as error:
        raise InvalidRequest(str(error)) from None
    in_force = (context.settings.configuration or layered(Document(path), {}, {})).values
    found: list[SettingView] = []
    for key in keys():
        now, then = in_file.get(key.name), in_force[key.name]
        file_value = now.value if now else key.default
        is_free = then.layer in (Layer.DEFAULT, Layer.FILE)
        found.append(
            SettingView(
                name=key.name,
                description=key.description,
                default=key.default,
                value=then.value,
                origin=then.layer,
                place=then.place,
                file_value=file_value,
                is_set_in_file=now is not None,
                needs_restart=is_free and file_value != then.value,
            )
        )
    return found


def change(context: AdminContext, changes: dict[str, Json]) -> None:
    """Write these into settings.json, all or nothing; null unsets one. Raises `InvalidRequest`."""
    path = context.settings.settings_file
    try:
        with locked(path):
            document, _ = load_for_writing(path)
            for name, value in changes.items():
                if name.startswith(f"{MODELS}."):
                    raise InvalidRequest(f"{name} is a model's; PUT /admin/api/models/ID changes it", name)
                key = find_key(name)
                document = (
                    document.without(key.path) if value is None else document.changed(key.path, key.convert(value))
                )
            read_values(document)
            write_document(document)
    except SettingsError as error:
        raise InvalidRequest(str(error)) from None
    log_change("Settings", changes)
