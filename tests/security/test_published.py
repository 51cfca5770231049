"""What was published as a hole in comparable servers, one row each: refused or harmless, and the server lives on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ..api.serving import MODEL, serving
from ..api.test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
NESTED: dict[str, Any] = {}
for _ in range(200):
    NESTED = {"type": "object", "properties": {"a": NESTED}}

REPEATED = "a" + "{999999999}" * 1000
HUGE: dict[str, dict[str, Any]] = {
    "a multiple of 400 digits": {"type": "number", "multipleOf": 10**400},
    "multiples that have none together": {"anyOf": [{"multipleOf": 2**61 + number} for number in range(30_000)]},
    "a pattern that repeats repetitions": {"type": "string", "pattern": REPEATED},
}
"""Numbers that no machine word holds, and products of which nobody sees the end."""

FRAMES = {"type": "image_url", "image_url": {"url": "data:video/jpeg;base64," + ",".join(["/9j/4AAQ"] * 10_000)}}

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("vLLM CVE-2026-34756: n", CHAT, {**CHAT_BODY, "n": 10**9}),
    ("vLLM CVE-2026-34756: n, text", COMPLETIONS, {"model": MODEL, "prompt": "a", "n": 10**9}),
    ("vLLM CVE-2024-8939: best_of", COMPLETIONS, {"model": MODEL, "prompt": "a", "best_of": 10**9}),
    ("vLLM CVE-2024-8768: no prompt", COMPLETIONS, {"model": MODEL, "prompt": ""}),
    ("vLLM CVE-2024-8768: no tokens", COMPLETIONS, {"model": MODEL, "prompt": []}),
    ("token ids that are none", COMPLETIONS, {"model": MODEL, "prompt": [-1]}),
    ("token ids over the vocabulary", COMPLETIONS, {"model": MODEL, "prompt": [2**31]}),
    ("vLLM CVE-2025-62426: template", CHAT, {**CHAT_BODY, "chat_template_kwargs": {"chat_template": "{{ 1 }}"}}),
    ("llama.cpp #10380: over the window", CHAT, {**CHAT_BODY, "messages": [{"role": "user", "content": "x" * 9000}]}),
    ("llama.cpp CVE-2026-21869: negative", CHAT, {**CHAT_BODY, "max_tokens": -1}),
    ("vLLM CVE-2026-22773: a broken image", CHAT, {**CHAT_BODY, "messages": [{"role": "user", "content": [IMAGE]}]}),
    ("temperature", CHAT, {**CHAT_BODY, "temperature": -1}),
    ("temperature, huge", CHAT, {**CHAT_BODY, "temperature": 1e300}),
    ("top_p", CHAT, {**CHAT_BODY, "top_p": 7}),
    ("top_k", CHAT, {**CHAT_BODY, "top_k": 2**40}),
    ("min_p", CHAT, {**CHAT_BODY, "min_p": -0.1}),
    ("seed", CHAT, {**CHAT_BODY, "seed": 2**80}),
    ("penalty", CHAT, {**CHAT_BODY, "presence_penalty": 1e9}),
    ("top_logprobs", CHAT, {**CHAT_BODY, "logprobs": True, "top_logprobs": 10**6}),
    ("stop strings", CHAT, {**CHAT_BODY, "stop": ["a"] * 10_000}),
    ("a long stop string", CHAT, {**CHAT_BODY, "stop": ["a" * 10**6]}),
    ("logit_bias", CHAT, {**CHAT_BODY, "logit_bias": {str(number): 1 for number in range(100_000)}}),
    ("tools", CHAT, {**CHAT_BODY, "tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(5000)]}),
    (
        "vLLM CVE-2025-48944: schema",
        CHAT,
        {
            **CHAT_BODY,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "something"}}},
        },
    ),
    (
        "llama.cpp #25308: pattern",
        CHAT,
        {
            **CHAT_BODY,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "(((("}},
            },
        },
    ),
    *((f"vLLM CVE-2025-48944: {what}", CHAT, {
        **CHAT_BODY, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    }) for what, schema in HUGE.items()),
    ("a pattern that repeats repetitions", COMPLETIONS, {
        "model": MODEL, "prompt": "a", "structured_outputs": {"regex": REPEATED}
    }),
    (
        "llama.cpp #26600: nesting",
        CHAT,
        {**CHAT_BODY, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": NESTED}}},
    ),
    *((f"llama.cpp #4492: grammar {text!r}", COMPLETIONS, {
        "model": MODEL, "prompt": "a", "structured_outputs": {"grammar": text}
    }) for text in ('rout ::= "route"', 'kind :== "kek" | "x"', "root ::= ((", "root ::= missing", 'root ::= "a', "")),
    *((f"llama.cpp #25960: a format of the kind {kind}", CHAT, {
        **CHAT_BODY, "response_format": {"type": kind, kind: {"syntax": "lark", "definition": "start: /a/"}}
    }) for kind in ("grammar", "ebnf", "gbnf", "structural_tag", "")),
    ("llama.cpp #25960: a format of Responses", RESPONSES, {
        "model": MODEL, "input": "a", "text": {"format": {"type": "grammar", "definition": "start: /a/"}}
    }),
    ("Ollama CVE-2024-37032: path", CHAT, {**CHAT_BODY, "model": "../../etc/passwd"}),
    ("a path, whole", CHAT, {**CHAT_BODY, "model": "/etc/passwd"}),
    ("vLLM CVE-2026-24779: address of an image", CHAT, {**CHAT_BODY, "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://ok.example\\@169.254.169.254/"}}]}
    ]}),
    ("vLLM CVE-2026-5497: ten thousand frames", CHAT, {**CHAT_BODY, "messages": [
        {"role": "user", "content": [FRAMES]}
    ]}),
    ("an image of Messages", MESSAGES, {**MESSAGES_BODY, "messages": [
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:1/"}}]}
    ]}),
]  # fmt: skip

HARMLESS: list[tuple[str, dict[str, Any]]] = [
    ("vLLM CVE-2025-61620: a template of the client's", {"chat_template": "{% for i in range(9**9) %}{% endfor %}"}),
    ("vLLM CVE-2025-62426: a word for the template", {"chat_template_kwargs": {"tokenize": True}}),
]


async def test_what_is_left_out_of_a_request_changes_nothing(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        plain = (await server.client.post(CHAT, json=CHAT_BODY)).json()["usage"]["prompt_tokens"]
        for label, fields in HARMLESS:
            answer = await server.client.post(CHAT, json={**CHAT_BODY, **fields})
            assert answer.status_code == 200, label
            assert answer.json()["usage"]["prompt_tokens"] == plain, label


async def test_every_published_body_is_refused_and_the_server_lives_on(tmp_path: Path):
    found: list[str] = []
    async with serving(tmp_path, "Hi.") as server:
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        pid = server.pool.engines[MODEL].pid
        for label, path, body in BODIES:
            for stream in (False, True):
                answer = await server.client.post(path, json={**body, "stream": stream})
                if answer.status_code not in (400, 404):
                    found.append(f"{label}, stream={stream}: {answer.status_code} {answer.text[:150]}")
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
        assert server.pool.engines[MODEL].pid == pid
    assert not found, "\n".join(found)


@pytest.mark.parametrize("syntax", ["lark", "regex", "gbnf", "something"])
async def test_a_tools_own_grammar_is_told_in_words_whatever_its_kind(tmp_path: Path, syntax: str):
    """llama.cpp #25960, #4492."""
    grammar = {"type": "grammar", "syntax": syntax, "definition": "((("}
    tool = {"type": "custom", "name": "edit", "description": "Edits.", "format": grammar}
    async with serving(tmp_path, "Hi.") as server:
        body = {"model": MODEL, "input": "a", "tools": [tool]}
        assert (await server.client.post(RESPONSES, json=body)).status_code == 200


TEMPLATES = ["{{ lipsum.__globals__ }}", "{% set x = 7 * 191 %}{{ x }}", "{# gone #}", "${{ 7 * 191 }}<%= 7 * 191 %>"]


@pytest.mark.parametrize("words", TEMPLATES)
async def test_a_template_in_a_request_is_a_text_like_any_other(tmp_path: Path, words: str):
    """LiteLLM CVE-2026-42203, vLLM GHSA-46cm: a token stands for a byte here, so that what was rendered would show."""

    def asked(text: str) -> dict[str, Any]:
        call = {"type": "tool_use", "id": "c", "name": "look", "input": {"at": text}}
        return {
            "model": MODEL,
            "system": text,
            "tools": [{"name": "look", "description": text, "input_schema": {"type": "object", "title": text}}],
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": [{"type": "text", "text": text}, call]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": text}]},
            ],
        }

    async with serving(tmp_path, "Hi.") as server:

        async def num_tokens(text: str) -> int:
            counted = await server.client.post(f"{MESSAGES}/count_tokens", json=asked(text))
            return counted.raise_for_status().json()["input_tokens"]

        assert await num_tokens(words) == await num_tokens("x" * len(words))
        for path in ("/prompts/test", "/v1/prompts/test", "/apply-template", "/v1/apply-template"):
            assert (await server.client.post(path, json={"prompt": words, "template": words})).status_code == 404


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
async def test_a_number_that_is_none_is_refused(tmp_path: Path, number: str):
    async with serving(tmp_path, "Hi.") as server:
        for name in ("temperature", "max_tokens", "top_p", "seed"):
            body = json.dumps({**CHAT_BODY, name: "HERE"}).replace('"HERE"', number)
            answer = await server.client.post(CHAT, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, (name, answer.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost/health?"},  # vLLM CVE-2026-48746: the guard saw another path than the router
        {"host": "localhost/admin"},
        {"authorization": "Bearer ' OR 1=1--"},  # LiteLLM CVE-2026-42208
        {"x-api-key": "*"},
        {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "localhost", "x-original-url": "/health"},
    ],
)
async def test_no_header_opens_a_server_that_has_a_key(tmp_path: Path, headers: dict[str, str]):
    async with serving(tmp_path, "Hi.", api_key="right") as server:
        assert (await server.client.post(CHAT, json=CHAT_BODY, headers=headers)).status_code in (400, 401, 403)
        assert (await server.client.get("/v1/models", headers=headers)).status_code in (400, 401, 403)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_packed_body_is_never_unpacked(tmp_path: Path, encoding: str):
    """Ollama CVE-2024-12886: a small body that unpacks to all of the memory."""
    bomb = gzip.compress(json.dumps({**CHAT_BODY, "user": "x" * 5_000_000}).encode())
    headers = {"content-type": "application/json", "content-encoding": encoding}
    async with serving(tmp_path, "Hi.") as server:
        answer = await server.client.post(CHAT, content=bomb, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize("depth", [1000, 100_000])
async def test_a_body_nested_without_end_is_refused(tmp_path: Path, depth: int):
    async with serving(tmp_path, "Hi.") as server:
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            deep = opening * depth + "1" + closing * depth
            body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": {deep}}}]}}'
            answer = await server.client.post(CHAT, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, answer.text[:100]
            for route in ("/v1/launches", "/admin/api/login"):
                headers = {"content-type": "application/json", "authorization": "Bearer any"}
                answer = await server.client.post(route, content=f'{{"a": {deep}}}', headers=headers)
                assert answer.status_code == 400, (route, answer.text[:100])
        assert (await server.client.post(CHAT, json=CHAT_BODY)).status_code == 200
