"""What a response tells of its request, and who may come back to it."""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest
from openai.types.responses import Response

from omlx.server.dialects.base import collect
from omlx.server.dialects.openai_response_store import ResponseStore, SessionTools
from omlx.server.dialects.openai_responses import ResponsesDialect
from omlx.server.errors import InvalidRequest
from omlx.server.events import TextDelta

from .samples import FINISHED, Json, body

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}}


def told(dialect: ResponsesDialect, fields: Json) -> Json:
    call = dialect.decode(body({"model": "m", "input": "x", **fields}), "req_1")
    response = json.loads(call.encode_answer(collect([TextDelta("a")], FINISHED)))
    Response.model_validate(response)
    return response


def test_a_response_tells_what_was_asked_for() -> None:
    form = {"type": "json_schema", "name": "yes", "strict": True, "description": "Of a kind.", "schema": SCHEMA}
    text = {"format": form, "verbosity": "low"}
    dialect = ResponsesDialect(ResponseStore())
    response = told(dialect, {"text": text, "truncation": "auto", "max_tool_calls": 3, "include": ["unheard.of"]})
    assert response["text"] == text
    assert (response["truncation"], response["max_tool_calls"]) == ("auto", 3)
    assert told(dialect, {})["text"] == {"format": {"type": "text"}}
    told(dialect, {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}})


def test_what_one_key_left_behind_is_not_there_for_another() -> None:
    store = ResponseStore()
    mine, others = ResponsesDialect(store).of("mine"), ResponsesDialect(store).of("others")
    response = told(mine, {})
    follow_up = {"input": [{"type": "item_reference", "id": response["output"][0]["id"]}]}
    for fields in (follow_up, {"previous_response_id": response["id"]}):
        told(mine, {**fields, "store": False})
        with pytest.raises(InvalidRequest):
            told(others, fields)
    assert store.get(response["id"], "others") is None
    assert not store.delete(response["id"], "others")
    assert store.delete(response["id"], "mine")


def test_a_session_of_one_key_lends_no_tools_to_another() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    first = {"type": "message", "role": "user", "content": "x"}
    mine = ResponsesDialect(ResponseStore()).of("mine")
    session = {"model": "m", "prompt_cache_key": "s"}
    mine.decode(body({**session, "tools": [tool], "input": [first]}), "req_1")
    later = body({**session, "tools": [], "input": [first, first]})
    assert mine.decode(later, "req_2").request.tools
    assert not mine.of("others").decode(later, "req_2").request.tools


def test_what_is_kept_takes_the_memory_that_it_has_on_the_wire() -> None:
    dialect = ResponsesDialect(ResponseStore(), SessionTools())
    junk = [{}] * 100_000
    tools = [{"type": "function", "name": "look", "parameters": {}, "junk": junk}]
    item = {"role": "user", "content": "x", "junk": junk}
    raw = body({"model": "m", "input": [item], "tools": tools, "prompt_cache_key": "thread-1"})
    tracemalloc.start()
    try:
        dialect.decode(raw, "req_1").encode_answer(collect([TextDelta("hi")], FINISHED))
        gc.collect()
        num_kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(raw) < num_kept_bytes < 3 * len(raw)
