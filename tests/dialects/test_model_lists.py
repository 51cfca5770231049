from __future__ import annotations

import json

import pytest

from omlx.server.dialects.model_lists import (
    ModelCard,
    encode_anthropic_list,
    encode_anthropic_model,
    encode_codex_catalog,
    encode_openai_list,
    encode_openai_model,
)
from omlx.server.errors import InvalidRequest

from .sdk import anthropic_client, openai_client

CARDS = [ModelCard(f"org/model-{number}", 1_700_000_000, 131_072, details={"kind": "llm"}) for number in range(5)]


def ids(encoded: bytes) -> list[str]:
    return [model["id"][-1] for model in json.loads(encoded)["data"]]


def test_the_openai_sdk_reads_the_list() -> None:
    models = openai_client(encode_openai_list(CARDS)).models.list().data
    assert [model.id for model in models] == [card.id for card in CARDS]
    assert models[0].to_dict()["max_model_len"] == 131_072
    assert openai_client(encode_openai_model(CARDS[0])).models.retrieve("x").id == "org/model-0"


def test_the_anthropic_sdk_reads_the_list() -> None:
    page = anthropic_client(encode_anthropic_list(CARDS)).models.list()
    assert [model.id for model in page.data] == [card.id for card in CARDS]
    assert page.data[0].created_at.year == 2023
    assert page.data[0].max_input_tokens == 131_072
    assert not page.has_more
    assert anthropic_client(encode_anthropic_model(CARDS[0])).models.retrieve("x").lifecycle == "active"


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ({"limit": 2}, ["0", "1"], True),
        ({"limit": 2, "after_id": "org/model-1"}, ["2", "3"], True),
        ({"limit": 2, "after_id": "org/model-3"}, ["4"], False),
        ({"limit": 2, "before_id": "org/model-4"}, ["2", "3"], True),
        ({"limit": 9, "before_id": "org/model-1"}, ["0"], False),
    ],
)
def test_the_anthropic_list_has_pages(query: dict[str, int | str], expected: list[str], has_more: bool) -> None:
    encoded = encode_anthropic_list(CARDS, **query)  # pyright: ignore[reportArgumentType]
    assert ids(encoded) == expected
    assert json.loads(encoded)["has_more"] is has_more


def test_a_cursor_to_nowhere_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode_anthropic_list(CARDS, after_id="gone")
    assert caught.value.param == "after_id"
    with pytest.raises(InvalidRequest):
        encode_anthropic_list(CARDS, limit=0)


def test_an_empty_list_is_a_list() -> None:
    assert openai_client(encode_openai_list([])).models.list().data == []
    assert anthropic_client(encode_anthropic_list([])).models.list().data == []


def test_the_catalog_of_codex_tells_window_and_tools() -> None:
    entry = json.loads(encode_codex_catalog(CARDS, "Be brief."))["models"][1]
    assert (entry["slug"], entry["priority"], entry["context_window"]) == ("org/model-1", 1, 131_072)
    assert (entry["base_instructions"], entry["apply_patch_tool_type"]) == ("Be brief.", "freeform")
    assert entry["input_modalities"] == ["text"]
