"""The models there are, in the shapes that `GET /v1/models` has: OpenAI's, Anthropic's, Codex's catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..errors import InvalidRequest
from .sse import encode

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as clients are told of it.

    `created` is in Unix seconds, `context_window` in tokens. `details` are this server's own words about
    it, shown beside the protocols' fields.
    """

    id: str
    created: int
    context_window: int
    reads_images: bool = False
    details: dict[str, Any] = field(default_factory=dict)


def encode_openai_model(card: ModelCard) -> bytes:
    return encode(_openai(card))


def encode_openai_list(cards: Sequence[ModelCard]) -> bytes:
    return encode({"object": "list", "data": [_openai(card) for card in cards]})


def _openai(card: ModelCard) -> dict[str, Any]:
    """The window goes under the names that other servers gave it: the API has none, and clients look for them."""
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "omlx",
        "max_model_len": card.context_window,
        "context_length": card.context_window,
        "omlx": card.details,
    }


def encode_anthropic_model(card: ModelCard) -> bytes:
    return encode(_anthropic(card))


def encode_anthropic_list(
    cards: Sequence[ModelCard], limit: int = 20, after_id: str | None = None, before_id: str | None = None
) -> bytes:
    """One page of the list, with the cursors to the next."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"must be between 1 and {MAX_PAGE}", "limit")
    start, end = 0, len(cards)
    if after_id is not None:
        start = _position(cards, after_id, "after_id") + 1
    if before_id is not None:
        end = _position(cards, before_id, "before_id")
        start = max(start, end - limit)
    page = cards[start : min(end, start + limit)]
    has_more = start > 0 if before_id is not None else start + limit < end
    return encode(
        {
            "data": [_anthropic(card) for card in page],
            "has_more": has_more,
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
    )


def _position(cards: Sequence[ModelCard], model_id: str, param: str) -> int:
    for index, card in enumerate(cards):
        if card.id == model_id:
            return index
    raise InvalidRequest(f"no model {model_id!r} in the list", param)


def _anthropic(card: ModelCard) -> dict[str, Any]:
    """An answer may be as long as the window leaves room for, so `max_tokens` is the window too."""
    return {
        "type": "model",
        "id": card.id,
        "display_name": card.id,
        "created_at": datetime.fromtimestamp(card.created, UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": card.context_window,
        "max_tokens": card.context_window,
    }


def encode_codex_catalog(cards: Sequence[ModelCard], base_instructions: str) -> bytes:
    """What Codex asks for with `client_version`: without an entry here it guesses a model's window and tools.

    `base_instructions` replace the prompt Codex has for models of its own.
    """
    return encode({"models": [_codex(card, priority, base_instructions) for priority, card in enumerate(cards)]})


def _codex(card: ModelCard, priority: int, base_instructions: str) -> dict[str, Any]:
    return {
        "slug": card.id,
        "display_name": card.id,
        "description": None,
        "default_reasoning_level": None,
        "supported_reasoning_levels": [],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "base_instructions": base_instructions,
        "support_verbosity": False,
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": True,
        "context_window": card.context_window,
        "input_modalities": ["text", "image"] if card.reads_images else ["text"],
        "experimental_supported_tools": [],
    }
