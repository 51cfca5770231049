"""`GET /v1/models` and `GET /v1/models/{id}`; ids may hold slashes.

One list in three shapes: Anthropic's for clients that send `anthropic-version`, Codex's catalog for those
that send `client_version`, OpenAI's for all others.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from litestar import HttpMethod, Request, Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery

from ..dialects import model_lists
from ..dialects.model_lists import ModelCard
from ..errors import ModelError
from ..models.capabilities import read_chat_template
from ..models.catalog import ENCODERS, ModelEntry
from ..parsers.selection import choose_formats
from .context import Context
from .failures import is_anthropic

_MAX_FORMATS = 1024
_READ = [HttpMethod.GET, HttpMethod.HEAD]


def routes(context: Context) -> list[HTTPRouteHandler]:
    @route("/v1/models", http_method=_READ)
    async def list_models(
        request: Request,
        client_version: FromQuery[str | None] = None,
        limit: FromQuery[int] = 20,
        after_id: FromQuery[str | None] = None,
        before_id: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        cards = [_card(context, entry) for entry in context.pool.entries]
        if client_version is not None:
            cards = [card for card in cards if card.details["kind"] not in ENCODERS]
            instructions = files("omlx.templates").joinpath("codex_instructions.md").read_text()
            return _json(model_lists.encode_codex_catalog(cards, instructions))
        if is_anthropic(request.scope["headers"]):
            return _json(model_lists.encode_anthropic_list(cards, limit, after_id, before_id))
        return _json(model_lists.encode_openai_list(cards))

    @route("/v1/models/{model_id:path}", http_method=_READ)
    async def get_model(request: Request, model_id: FromPath[str]) -> Response[bytes]:
        name = model_id.removeprefix("/")
        await context.find_model(name)
        found = _card(context, context.pool.entry(name))
        encode = (
            model_lists.encode_anthropic_model
            if is_anthropic(request.scope["headers"])
            else model_lists.encode_openai_model
        )
        return _json(encode(found))

    return [list_models, get_model]


def _card(context: Context, entry: ModelEntry) -> ModelCard:
    engine = context.pool.engines.get(entry.id)
    settings = context.model_settings.get(entry.id)
    window = settings.window(entry.context_window)
    details = {
        "alias": settings.alias,
        "kind": entry.kind,
        "architecture": entry.architecture,
        "quantization": entry.quantization,
        "size_bytes": entry.size_bytes,
        "is_loaded": engine is not None and engine.is_alive and not engine.is_loading,
        "reasoning": (settings.reasoning_parser or _reasoning_format(entry.path)) != "none",
        "batching": engine.batching.name if engine is not None else None,
        "batching_reason": engine.batching.reason if engine is not None else "",
        "drafting": engine.batching.drafting if engine is not None else None,
        "drafting_reason": engine.batching.drafting_reason if engine is not None else "",
        "vision": False,  # an image becomes a line of text, whatever the model could see
        "max_output_tokens": window,  # no cap of its own: an answer may fill what the prompt leaves
    }
    return ModelCard(entry.id, int(entry.changed_at), window, details=details)


@lru_cache(maxsize=_MAX_FORMATS)
def _reasoning_format(folder: Path) -> str:
    """How the model marks its thinking. Where its template can't be read, requests to it are told so."""
    try:
        return choose_formats(read_chat_template(folder) or "").announced_reasoning
    except ModelError:
        return "none"


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type="application/json")
