"""`n`, `best_of` and log probabilities over HTTP: the engine process does the counting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..text_model import byte_tokenizer
from .serving import MODEL, serving

CHAT = "/v1/chat/completions"
LONG = [{"role": "user", "content": "hello " * 200}]


@pytest.mark.parametrize("stream", [False, True])
async def test_each_answer_is_told_and_the_prompt_is_computed_once(tmp_path: Path, stream: bool):
    body = {"model": MODEL, "messages": LONG, "n": 3, "stream": stream, "stream_options": {"include_usage": True}}
    async with serving(tmp_path, "One.", "Second.", "The third.") as server:
        response = (await server.client.post(CHAT, json=body)).raise_for_status()
        metrics = (await server.client.get("/metrics")).text
    texts = ["", "", ""]
    if stream:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        for choice in (choice for chunk in chunks for choice in chunk["choices"]):
            texts[choice["index"]] += choice["delta"].get("content") or ""
        usage = chunks[-1]["usage"]
    else:
        answer = response.json()
        texts = [choice["message"]["content"] for choice in answer["choices"]]
        usage = answer["usage"]
    assert sorted(texts) == ["One.", "Second.", "The third."]
    assert usage["completion_tokens"] == len("One.Second.The third.")
    assert usage["prompt_tokens"] > 1200
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    computed = float(figures['omlx:prompt_tokens_total{model_name="tiny"}']) - float(
        figures['omlx:prefix_cache_hits_total{model_name="tiny"}']
    )
    assert computed <= usage["prompt_tokens"] + 2


async def test_each_token_has_its_log_probability(tmp_path: Path):
    body = {"model": MODEL, "messages": LONG, "logprobs": True, "top_logprobs": 1}
    async with serving(tmp_path, "Hé!") as server:
        whole = (await server.client.post(CHAT, json=body)).json()["choices"][0]
        response = await server.client.post(CHAT, json=body | {"stream": True})
        ids = server.tokenizer.encode("Hé!").ids
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    streamed = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    content = whole["logprobs"]["content"]
    assert [token["logprob"] for token in content] == [-token_id / 1000 for token_id in ids]
    assert bytes(byte for token in content for byte in token["bytes"]) == "Hé!".encode()
    assert [token for part in streamed for token in part["content"]] == content


async def test_a_prompt_can_be_scored(tmp_path: Path):
    body = {"model": MODEL, "prompt": "Once", "echo": True, "logprobs": 1, "max_tokens": 1}
    async with serving(tmp_path, " upon") as server:
        choice = (await server.client.post("/v1/completions", json=body)).json()["choices"][0]
        again = (await server.client.post("/v1/completions", json=body)).json()["choices"][0]
    assert choice["text"] == "Once "
    assert choice["logprobs"]["tokens"] == ["O", "n", "c", "e", " "]
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]
    assert again == choice


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_tokens", [False, True])
async def test_several_prompts_are_answered_in_their_order(tmp_path: Path, as_tokens: bool, stream: bool):
    prompts = [byte_tokenizer().encode(text).ids if as_tokens else text for text in ("Once", "Twice")]
    body = {"model": MODEL, "prompt": prompts, "n": 2, "echo": True, "logprobs": 0, "seed": 1}
    body |= {"stream": stream, "stream_options": {"include_usage": True}}
    async with serving(tmp_path, *["!"] * 4) as server:
        response = (await server.client.post("/v1/completions", json=body)).raise_for_status()
    lines = response.text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")] if stream else [response.json()]
    texts, tokens, ends = [""] * 4, [list[str]() for _ in range(4)], [None] * 4
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["text"]
        tokens[choice["index"]] += (choice["logprobs"] or {"tokens": []})["tokens"]
        ends[choice["index"]] = choice["finish_reason"]
    assert texts == ["Once!", "Once!", "Twice!", "Twice!"]
    assert ["".join(each) for each in tokens] == texts
    assert ends == ["stop"] * 4
    assert chunks[-1]["usage"]["prompt_tokens"] == len("OnceTwice")
    assert chunks[-1]["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_one_prompt_that_cannot_be_answered_refuses_the_request(tmp_path: Path, stream: bool):
    body = {"model": MODEL, "prompt": ["Once", "x" * 5000], "stream": stream}
    async with serving(tmp_path, "x" * 4000, step_seconds=0.05) as server:
        refused = await server.client.post("/v1/completions", json=body)
        one = {"model": MODEL, "prompt": "Once", "max_tokens": 1}
        again = (await server.client.post("/v1/completions", json=one)).json()
        stats = server.pool.engines[MODEL].stats
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert again["choices"][0]["text"] == "x"
    assert stats.num_running == 0


@pytest.mark.parametrize("answer", [" upon", ""])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_can_be_scored_without_an_answer(tmp_path: Path, stream: bool, answer: str):
    body = {"model": MODEL, "prompt": "Once", "echo": True, "logprobs": 1, "max_tokens": 0}
    body |= {"stream": stream, "stream_options": {"include_usage": True}}
    async with serving(tmp_path, answer) as server:
        response = (await server.client.post("/v1/completions", json=body)).raise_for_status()
        refused = await server.client.post("/v1/completions", json=body | {"echo": False})
    lines = response.text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")] if stream else [response.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in choices) == "Once"
    assert [t for choice in choices for t in (choice["logprobs"] or {"tokens": []})["tokens"]] == ["O", "n", "c", "e"]
    assert choices[-1]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 0
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")


async def test_a_client_that_leaves_ends_all_answers(tmp_path: Path):
    body = {"model": MODEL, "messages": LONG, "n": 2, "stream": True}
    async with serving(tmp_path, "x" * 4000, step_seconds=0.05) as server:
        async with server.client.stream("POST", CHAT, json=body) as response:
            await anext(response.aiter_text())
        second = (await server.client.post(CHAT, json={"model": MODEL, "messages": LONG, "max_tokens": 2})).json()
        stats = server.pool.engines[MODEL].stats
    assert second["choices"][0]["finish_reason"] == "length"
    assert stats.num_running == 0
