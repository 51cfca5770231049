"""The admin API in the OpenAPI document: each operation with the structs that read and write its bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ...log_ring import LogLine
from ...settings.keys import keys, model_keys
from ..keys import DescribedKey
from .cache import CacheView
from .check_routes import StartCheck
from .checks import Check
from .download_routes import StartDownload
from .downloads import DownloadView
from .models import Deleted, ModelView
from .session import Ended, LogIn, SessionView
from .settings import SettingView
from .status import LAST_LINE, AgentSeen, Requests, Status

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    path: str
    summary: str
    answer: Any
    body: Any = None
    status: int = 200
    query: tuple[str, ...] = ()


SettingChanges = msgspec.defstruct(
    "SettingChanges",
    [(key.name.replace(".", "_"), key.type | None, None) for key in keys()],
    rename={key.name.replace(".", "_"): key.name for key in keys()},
    namespace={"__doc__": "Settings by name, such as `server.port`; null unsets one."},
    forbid_unknown_fields=True,
)

ModelChanges = msgspec.defstruct(
    "ModelChanges",
    [(key.path[-1], key.type | None, None) for key in model_keys("ID")],
    namespace={"__doc__": "A model's settings, such as `max_tokens`; null unsets one."},
    forbid_unknown_fields=True,
)

_CHAT = "/v1/chat/completions"
"""What the chat page's own route is the same as, but for who may use it."""

_OPERATIONS = (
    _Operation("post", "login", "Open a session with the admin key", SessionView, LogIn),
    _Operation("get", "session", "One's own session, with the token that changes need", SessionView),
    _Operation("delete", "session", "Log out", Ended),
    _Operation("get", "sessions", "All sessions", list[SessionView]),
    _Operation("delete", "sessions", "End all sessions", Ended),
    _Operation("get", "status", "Load, memory, and the last half hour", Status),
    _Operation("get", "requests", "Requests under way, and the last that ended", Requests),
    _Operation("get", "agents", "The agents seen, with their last request", list[AgentSeen]),
    _Operation("get", "logs", "The last lines of the log", list[LogLine], query=("level", "after")),
    _Operation("get", "models", "The models, with state, settings and MTP", list[ModelView]),
    _Operation("get", "models/{model_id}", "One model, by id or alias", ModelView),
    _Operation("put", "models/{model_id}", "Change settings from the next request on", ModelView, ModelChanges),
    _Operation("delete", "models/{model_id}", "Unload it, and delete its folder", Deleted),
    _Operation("put", "loaded/{model_id}", "Load the model, in the background", ModelView, status=202),
    _Operation("delete", "loaded/{model_id}", "Unload the model", ModelView),
    _Operation("get", "downloads", "The downloads, with their progress", list[DownloadView]),
    _Operation("post", "downloads", "Start or resume one", DownloadView, StartDownload, status=202),
    _Operation("delete", "downloads/{repo}", "Stop it, or forget a stopped one", list[DownloadView]),
    _Operation("get", "cache", "What each tier of the prefix cache holds", CacheView),
    _Operation("delete", "cache", "Remove the prefixes on the disk", CacheView),
    _Operation("get", "settings", "The server's settings, with their origins", list[SettingView]),
    _Operation("put", "settings", "Write settings.json", list[SettingView], SettingChanges),
    _Operation("get", "keys", "The keys, by name and fingerprint", list[DescribedKey]),
    _Operation("delete", "keys/{name}", "End a key", list[DescribedKey]),
    _Operation("get", "checks", "The last probe and benchmark", list[Check]),
    _Operation("post", "checks", "Start a probe or a benchmark", Check, StartCheck, status=202),
    _Operation("delete", "checks", "Cancel the one that runs", list[Check]),
    _Operation("post", "chat", "Chat Completions, for the chat page", Any),
)
_PARAMETERS = ("model_id", "name", "repo")
_REFUSALS = {
    400: "A field is wrong",
    401: "No session and no admin key, or a wrong one",
    403: "A change without the session's token, a foreign Host or Origin",
    404: "No such model or key",
    409: "It is in use, or one runs already",
    413: "The body is too large",
    415: "The body is not application/json",
    429: "Too many wrong keys; Retry-After says when to come back",
    500: "The server or its engine failed",
    503: "No room or no engine now",
}


def add_admin(document: Node) -> None:
    """Put the admin API's paths and schemas into the document."""
    types = [kind for each in _OPERATIONS for kind in (each.answer, each.body) if kind not in (None, Any)]
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/Admin.{name}")
    described = dict(zip(map(repr, types), references, strict=True))
    components = document["components"]
    components["schemas"] |= {f"Admin.{name}": schema for name, schema in schemas.items()}
    components.setdefault("securitySchemes", {}).update(
        adminKey={"type": "http", "scheme": "bearer", "description": "What `omlx key admin` prints"},
        adminSession={"type": "apiKey", "in": "cookie", "name": "omlx_session"},
    )
    for operation in _OPERATIONS:
        path = document["paths"].setdefault(f"/admin/api/{operation.path}", {})
        path[operation.method] = _described(operation, described)
    chat, public = document["paths"]["/admin/api/chat"]["post"], document["paths"][_CHAT]["post"]
    chat["requestBody"] = public["requestBody"]
    chat["responses"]["200"] = public["responses"]["200"]


def _described(operation: _Operation, schemas: dict[str, Any]) -> Node:
    answer = _content(schemas.get(repr(operation.answer), {}))
    refusal = _content({"$ref": "#/components/schemas/OpenAIError"})
    in_path = [name for name in _PARAMETERS if f"{{{name}}}" in operation.path]
    described: Node = {
        "tags": ["admin"],
        "summary": operation.summary,
        "security": [{"adminKey": []}, {"adminSession": []}] if operation.path != "login" else [],
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path),
            *({"name": name, "in": "query", "schema": _QUERY[name]} for name in operation.query),
        ],
        "responses": {
            str(operation.status): {"description": operation.summary, "content": answer},
            **{str(status): {"description": words, "content": refusal} for status, words in _REFUSALS.items()},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(schemas[repr(operation.body)])}
    return described


_QUERY: Node = {
    "level": {"type": "string", "enum": ["INFO", "WARNING", "ERROR"]},
    "after": {"type": "integer", "minimum": 0, "maximum": LAST_LINE},
}


def _content(schema: Node) -> Node:
    return {"application/json": {"schema": schema}}
