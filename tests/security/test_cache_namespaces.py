"""One key's prompts are no other key's business: whatever is remembered for one is not there for another, nor for one
that is made anew under its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from omlx.server.prompts.tokenizer import Tokenizer

from ..api.admin.admin_serving import ADMIN_KEY, write_keys
from ..api.serving import MODEL, Serving, serving
from ..api.test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

ALICE, BOB, ALICE_ANEW = "sk-alice", "sk-bob", "sk-alice-anew"
LAUNCH, NEXT_LAUNCH = "sk-launch", "sk-next-launch"
"""Of an agent called alice."""
PLAN = "a secret plan, rather long"


def give_keys(home: Path, alice: str = ALICE) -> None:
    keys = [("alice", alice, None), ("bob", BOB, None)]
    keys += [("alice", key, "2100-01-01T00:00:00Z") for key in (LAUNCH, NEXT_LAUNCH)]
    entries = [
        {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "expires": expires}
        for name, key, expires in keys
    ]
    new = home / "keys.new"
    new.write_text(json.dumps({"keys": entries}))
    new.replace(home / "keys.json")


async def ask(server: Serving, key: str, text: str, system: str = "") -> int:
    """How many tokens were cached."""
    body = {**MESSAGES_BODY, "messages": [{"role": "user", "content": text}], "max_tokens": 1, "system": system}
    answer = await server.client.post(MESSAGES, json=body, headers={"x-api-key": key})
    return answer.raise_for_status().json()["usage"]["cache_read_input_tokens"]


async def test_a_prefix_is_found_by_its_own_key_alone(tmp_path: Path):
    give_keys(tmp_path)
    async with serving(tmp_path, "Hi.") as server:
        await ask(server, ALICE, PLAN)
        assert await ask(server, BOB, PLAN) == 0
        assert await ask(server, LAUNCH, PLAN) == 0
        assert await ask(server, ALICE, PLAN) > 20
        assert await ask(server, NEXT_LAUNCH, PLAN) > 20


async def test_a_key_made_anew_under_a_name_finds_nothing_of_the_one_before(tmp_path: Path):
    give_keys(tmp_path)
    async with serving(tmp_path, "Hi.") as server:

        async def respond(key: str, **fields: str) -> tuple[int, dict]:
            body = {"model": MODEL, "input": PLAN, **fields}
            answer = await server.client.post("/v1/responses", json=body, headers={"x-api-key": key})
            return answer.status_code, answer.json()

        _, stored = await respond(ALICE)
        assert await ask(server, ALICE, PLAN) > 20
        give_keys(tmp_path, ALICE_ANEW)
        assert await ask(server, ALICE_ANEW, PLAN) == 0
        for key, status in ((ALICE_ANEW, 404), (ALICE, 401)):
            found = await server.client.get(f"/v1/responses/{stored['id']}", headers={"x-api-key": key})
            assert found.status_code == status
        assert (await respond(ALICE_ANEW, previous_response_id=stored["id"]))[0] == 400
        give_keys(tmp_path)
        assert (await respond(ALICE, previous_response_id=stored["id"]))[0] == 200


async def test_the_chat_page_shares_nothing_with_a_key_of_its_name(tmp_path: Path):
    write_keys(tmp_path, ("chat", "", ALICE), ("admin", "admin", ADMIN_KEY))
    body = {**CHAT_BODY, "messages": [{"role": "user", "content": PLAN}]}
    async with serving(tmp_path, "Hi.") as server:

        async def num_cached(path: str, key: str) -> int:
            answer = await server.client.post(path, json=body, headers={"authorization": f"Bearer {key}"})
            return answer.raise_for_status().json()["usage"]["prompt_tokens_details"]["cached_tokens"]

        page, agent = ("/admin/api/chat", ADMIN_KEY), (CHAT, ALICE)
        assert await num_cached(*page) == 0
        assert await num_cached(*agent) == 0
        assert await num_cached(*page) > 20


async def test_what_one_key_had_encoded_is_encoded_anew_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """30,000 characters take 25 ms, and less than 1 ms where they are remembered."""
    encoded: list[str] = []
    encode_now = Tokenizer._encode_now

    def noted(self: Tokenizer, text: str, position: int = 0):
        encoded.append(text)
        return encode_now(self, text, position)

    monkeypatch.setattr(Tokenizer, "_encode_now", noted)
    give_keys(tmp_path)
    async with serving(tmp_path, "Hi.") as server:

        async def post(path: str, body: dict, key: str) -> None:
            (await server.client.post(path, json=body, headers={"x-api-key": key})).raise_for_status()

        for key, count in ((ALICE, 1), (BOB, 2), (LAUNCH, 3), (NEXT_LAUNCH, 3), (BOB, 3)):
            await ask(server, key, PLAN)
            assert sum(PLAN in text for text in encoded) == count
        for key, count in ((ALICE, 1), (BOB, 2), (BOB, 2)):
            await post("/v1/completions", {"model": MODEL, "prompt": "a bare secret", "max_tokens": 1}, key)
            assert sum("a bare secret" in text for text in encoded) == count
        counted = {"model": MODEL, "messages": [{"role": "user", "content": "a counted secret"}]}
        for key, count in ((ALICE, 1), (BOB, 2), (ALICE, 2)):
            await post(f"{MESSAGES}/count_tokens", counted, key)
            assert sum("a counted secret" in text for text in encoded) == count


async def test_thinking_is_put_back_for_the_key_that_it_was_written_for_alone(tmp_path: Path):
    """A turn's length would tell who else has had it, and the model would repeat what it had thought."""
    give_keys(tmp_path)
    async with serving(tmp_path, "<think>\nLet me see, for quite a while.\n</think>\n\nHi.", "Fine.") as server:
        template = tmp_path / "models" / MODEL / "chat_template.jinja"
        thinking = "{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
        template.write_text(template.read_text().replace("{{ message.content }}", thinking + "{{ message.content }}"))
        turns = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "more"},
        ]

        async def num_prompt_tokens(key: str, turns: list[dict[str, str]]) -> int:
            body = {**CHAT_BODY, "messages": turns}
            answer = await server.client.post(CHAT, json=body, headers={"x-api-key": key})
            return answer.raise_for_status().json()["usage"]["prompt_tokens"]

        async def num_counted(key: str) -> int:
            body = {"model": MODEL, "messages": turns}
            answer = await server.client.post(f"{MESSAGES}/count_tokens", json=body, headers={"x-api-key": key})
            return answer.raise_for_status().json()["input_tokens"]

        await num_prompt_tokens(ALICE, turns[:1])
        alices, bobs = await num_prompt_tokens(ALICE, turns), await num_prompt_tokens(BOB, turns)
        assert bobs < alices
        assert (await num_counted(BOB), await num_counted(ALICE)) == (bobs, alices)
        give_keys(tmp_path, ALICE_ANEW)
        assert await num_prompt_tokens(ALICE_ANEW, turns) == bobs


async def test_what_an_agent_opens_with_is_kept_for_its_own_key_alone(tmp_path: Path):
    """Restored under another key, it could be found there by guessing."""
    give_keys(tmp_path)
    system = "You help with a secret plan. " * 20
    async with serving(tmp_path, "Hi.") as server:

        async def num_kept(key: str) -> int:
            body = {"agent": "pi", "model": MODEL}
            (await server.client.post("/v1/launches", json=body, headers={"x-api-key": key})).raise_for_status()
            await ask(server, key, "hello", system)
            return len([path for path in (tmp_path / "openings").rglob("*") if path.is_file()])

        assert [await num_kept(key) for key in (ALICE, BOB, LAUNCH, NEXT_LAUNCH)] == [1, 2, 3, 3]
        give_keys(tmp_path, ALICE_ANEW)
        assert await num_kept(ALICE_ANEW) == 4
