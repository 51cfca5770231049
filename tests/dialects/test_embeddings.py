from __future__ import annotations

from struct import pack

import pytest

from omlx.server.dialects import openai_embeddings, rerank
from omlx.server.errors import InvalidRequest

from .samples import Json, body
from .sdk import openai_client

VECTORS = [pack("<3f", 0.6, 0.0, 0.8), pack("<3f", 0.0, 1.0, 0.0)]


def embed(given: object, **fields: object) -> openai_embeddings.Call:
    return openai_embeddings.decode(body({"model": "m", "input": given, **fields}), "req_1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1, 2], "b"], ((1, 2), "b"))],
)
def test_an_input_is_one_or_many_of_texts_and_token_ids(given: object, expected: tuple[object, ...]) -> None:
    assert embed(given).request.inputs == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input.0"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": [1, "a"]}, "input.0.1"),
        ({"input": ["a", 1.5]}, "input.1"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": ["a"] * 2049}, "input"),
    ],
)
def test_a_wrong_field_of_an_embedding_is_named(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        openai_embeddings.decode(body({"model": "m", **fields}), "req_1")
    assert caught.value.param == param


@pytest.mark.parametrize("form", ["float", "base64"])
def test_the_sdk_reads_both_forms(form: str) -> None:
    answer = embed(["a", "b"], encoding_format=form).encode_answer(VECTORS, 7)
    given = {} if form == "base64" else {"encoding_format": "float"}  # the SDK asks for base64 and decodes it
    found = openai_client(answer).embeddings.create(model="m", input=["a", "b"], **given)  # type: ignore[arg-type]

    assert [item.embedding for item in found.data] == [pytest.approx([0.6, 0.0, 0.8]), [0.0, 1.0, 0.0]]
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (7, 7)


def test_fewer_dimensions_are_of_unit_length_again() -> None:
    found = openai_client(embed("a", dimensions=1).encode_answer(VECTORS[:1], 1)).embeddings.create(
        model="m", input="a", encoding_format="float"
    )
    assert found.data[0].embedding == [1.0]


def test_more_dimensions_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="model's 3"):
        embed("a", dimensions=4).encode_answer(VECTORS, 1)


def test_the_best_documents_come_first_and_only_so_many() -> None:
    fields = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2, "return_documents": True}
    call = rerank.decode(body(fields), "req_1")
    answer = call.encode_answer([pack("<f", score) for score in (0.25, 0.5, 0.25)], 9)

    assert call.request.documents == ("a", "b", "c")
    assert b'"results":[{"index":1,"relevance_score":0.5,"document":{"text":"b"}},{"index":0,' in answer
    assert b'"index":2' not in answer


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": "q"}, "documents"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": [3]}, "documents.0"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_a_wrong_field_of_a_ranking_is_named(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rerank.decode(body({"model": "m", **fields}), "req_1")
    assert caught.value.param == param
