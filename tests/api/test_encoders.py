"""Embeddings and reranking over HTTP, by engine processes that hold tiny random models."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from omlx.server.serving import mlx_engine_command
from omlx.server.settings import ServeSettings

from ..models.encoders.random_encoders import CONFIGS, HIDDEN, build
from .serving import MODEL, Serving, serving

EMBED, RERANK, CHAT = "/v1/embeddings", "/v1/rerank", "/v1/chat/completions"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    for name in ("Tiny-Embedding", "xlm-roberta-reranker", "modernbert-reranker", "qwen3-labels", "Tiny-Reranker"):
        build(tmp_path / "models" / name, CONFIGS[name])
    command = mlx_engine_command(ServeSettings(home=tmp_path, model_dirs=()))
    async with serving(tmp_path, "Hi.", engine_command=command) as running:
        yield running


async def test_texts_become_vectors_of_unit_length_whatever_their_company(server: Serving):
    asked = {"model": "Tiny-Embedding", "input": ["w1 w2 w3", "w4"]}
    both = (await server.client.post(EMBED, json=asked)).raise_for_status().json()
    packed = (await server.client.post(EMBED, json=asked | {"encoding_format": "base64"})).json()["data"]
    short = (await server.client.post(EMBED, json=asked | {"dimensions": 4, "input": "w4"})).json()["data"]
    ids = (await server.client.post(EMBED, json=asked | {"input": [10, 2]})).json()["data"]

    first, second = (np.array(item["embedding"]) for item in both["data"])
    assert (len(first), both["usage"]["prompt_tokens"]) == (HIDDEN, 6)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(packed[0]["embedding"]), "<f4"), first, atol=1e-6)
    np.testing.assert_allclose(short[0]["embedding"], second[:4] / np.linalg.norm(second[:4]), atol=1e-4)
    np.testing.assert_allclose(ids[0]["embedding"], second, atol=1e-4)


@pytest.mark.parametrize("model", ["xlm-roberta-reranker", "modernbert-reranker", "qwen3-labels", "Tiny-Reranker"])
async def test_documents_are_ranked_and_cut_to_what_the_model_reads(server: Serving, model: str):
    asked = {"model": model, "query": "w1", "documents": ["w2", "w3 w4", "w5 " * 300], "return_documents": True}
    ranked = (await server.client.post(RERANK, json=asked)).raise_for_status().json()
    scores = [result["relevance_score"] for result in ranked["results"]]

    assert sorted(scores, reverse=True) == scores
    assert sorted(result["index"] for result in ranked["results"]) == [0, 1, 2]
    assert all(0 < score < 1 for score in scores)
    assert ranked["results"][0]["document"]["text"] == asked["documents"][ranked["results"][0]["index"]]


async def test_they_leave_their_lines_in_the_log_and_count_in_the_metrics(
    server: Serving, caplog: pytest.LogCaptureFixture
):
    headers = {"user-agent": "continue/1.2"}
    with caplog.at_level(logging.INFO):
        embedded = await server.client.post(
            EMBED, json={"model": "Tiny-Embedding", "input": ["w1 w2 w3", "w4"]}, headers=headers
        )
        ranked = {"model": "Tiny-Reranker", "query": "w1", "documents": ["w2"]}
        (await server.client.post(RERANK, json=ranked)).raise_for_status()
        long = await server.client.post(EMBED, json={"model": "Tiny-Embedding", "input": "w1 " * 200})
    metrics = (await server.client.get("/metrics")).text

    num_tokens = embedded.raise_for_status().json()["usage"]["prompt_tokens"]
    embedding, reranking, refused = (line for line in caplog.messages if line.startswith("request "))
    assert "agent=continue model=Tiny-Embedding outcome=stop cause=- " in embedding
    assert f" prompt_tokens={num_tokens} cached_tokens=0 " in embedding
    assert float(embedding.partition("prefill_tps=")[2].split()[0]) > 0
    assert "model=Tiny-Reranker outcome=stop cause=- " in reranking
    assert "outcome=error cause=invalid_request " in refused
    assert "input is too long: 201 tokens > 120 maximum" in long.json()["error"]["message"]
    assert " prompt_tokens=201 " in refused
    assert not re.search(r"\bw[1-4]\b", "\n".join(caplog.messages))
    name = 'model_name="Tiny-Embedding"'
    assert f"omlx:prompt_tokens_total{{{name}}} {num_tokens:.1f}" in metrics
    assert f'omlx:request_success_total{{finished_reason="stop",{name}}} 1.0' in metrics
    assert f"omlx:prefix_cache_queries_total{{{name}}}" not in metrics


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (EMBED, {"model": "Tiny-Embedding", "input": ["w1", "w1 " * 200]}, "input.1"),
        (EMBED, {"model": "Tiny-Embedding", "input": [[1, 5000]]}, "input.0"),
        (EMBED, {"model": "Tiny-Embedding", "input": "w1", "dimensions": 64}, "dimensions"),
        (EMBED, {"model": "Tiny-Reranker", "input": "w1"}, "model"),
        (EMBED, {"model": MODEL, "input": "w1"}, "model"),
        (RERANK, {"model": "xlm-roberta-reranker", "query": "w1 " * 60, "documents": ["w2"]}, "query"),
        (RERANK, {"model": "Tiny-Embedding", "query": "w1", "documents": ["w2"]}, "model"),
        (CHAT, {"model": "Tiny-Embedding", "messages": [{"role": "user", "content": "w1"}]}, "model"),
    ],
)
async def test_what_cannot_be_done_is_400_and_named(server: Serving, path: str, fields: dict, param: str):
    refused = await server.client.post(path, json=fields)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_a_model_that_writes_no_text_has_no_prompt_to_count(server: Serving):
    body = {"model": "Tiny-Embedding", "messages": [{"role": "user", "content": "w1"}]}
    response = await server.client.post("/v1/messages/count_tokens", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "writes no text" in response.json()["error"]["message"]


async def test_the_list_of_models_tells_their_kinds(server: Serving):
    listed = (await server.client.get("/v1/models")).json()["data"]
    codex = (await server.client.get("/v1/models?client_version=1")).json()["models"]

    kinds = {model["id"]: model["omlx"]["kind"] for model in listed}
    assert kinds["Tiny-Embedding"] == "embedding"
    assert kinds["Tiny-Reranker"] == "reranker"
    assert [model["slug"] for model in codex] == [MODEL]


async def test_a_text_of_megabytes_is_refused_before_it_takes_its_memory(server: Serving):
    answer = await server.client.post(EMBED, json={"model": "Tiny-Embedding", "input": "x " * 4_000_000})
    assert answer.status_code == 400
    assert "input is too long" in answer.text
