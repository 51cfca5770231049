"""One key's prompts are no other key's business: nothing is shared, and no clock tells of them."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

from omlx.server.prompts.tokenizer import Tokenizer

from ..api.admin.admin_serving import write_keys
from ..api.serving import MODEL, Serving, serving
from ..api.test_server import CHAT, CHAT_BODY, MESSAGES, MESSAGES_BODY

ALICE, BOB, ALICES_LAUNCH = "sk-alice", "sk-bob", "sk-alice-launch"
PROBES = 20


async def ask(server: Serving, key: str, text: str, system: str = "") -> tuple[int, float]:
    """How many tokens were cached, and the seconds to the first one."""
    started = perf_counter()
    body = {**MESSAGES_BODY, "messages": [{"role": "user", "content": text}], "max_tokens": 1, "system": system}
    answer = await server.client.post(MESSAGES, json=body, headers={"x-api-key": key})
    seconds = perf_counter() - started
    return answer.raise_for_status().json()["usage"]["cache_read_input_tokens"], seconds


def give_keys(home: Path) -> None:
    write_keys(home, ("alice", "", ALICE), ("bob", "", BOB), ("alice", "", ALICES_LAUNCH))


async def test_a_prefix_is_found_by_its_own_key_alone(tmp_path: Path):
    give_keys(tmp_path)
    async with serving(tmp_path, "Hi.") as server:
        await ask(server, ALICE, "a secret plan, rather long")
        assert (await ask(server, BOB, "a secret plan, rather long"))[0] == 0
        assert (await ask(server, ALICE, "a secret plan, rather long"))[0] > 20
        assert (await ask(server, ALICES_LAUNCH, "a secret plan, rather long"))[0] > 20


async def test_a_name_beginning_alike_shares_nothing(tmp_path: Path):
    write_keys(tmp_path, ("alice", "", ALICE), ("alice2", "", BOB))
    async with serving(tmp_path, "Hi.") as server:
        await ask(server, ALICE, "a secret plan, rather long")
        assert (await ask(server, BOB, "a secret plan, rather long"))[0] == 0


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
        for key, count in ((ALICE, 1), (BOB, 2), (ALICES_LAUNCH, 2), (BOB, 2)):
            await ask(server, key, "a secret plan")
            assert sum("a secret plan" in text for text in encoded) == count
        for key, count in ((ALICE, 1), (BOB, 2), (BOB, 2)):
            bare = {"model": MODEL, "prompt": "a bare secret", "max_tokens": 1}
            (await server.client.post("/v1/completions", json=bare, headers={"x-api-key": key})).raise_for_status()
            assert sum("a bare secret" in text for text in encoded) == count


async def test_thinking_is_put_back_for_the_key_that_it_was_written_for_alone(tmp_path: Path):
    """A turn's length would tell who else has had it, and the model would repeat what it had thought."""
    give_keys(tmp_path)
    async with serving(tmp_path, "<think>\nLet me see, for quite a while.\n</think>\n\nHi.", "Fine.") as server:
        template = tmp_path / "models" / MODEL / "chat_template.jinja"
        thinking = "{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
        template.write_text(template.read_text().replace("{{ message.content }}", thinking + "{{ message.content }}"))

        async def num_prompt_tokens(key: str, *turns: dict[str, str]) -> int:
            body = {**CHAT_BODY, "messages": [{"role": "user", "content": "hello"}, *turns]}
            answer = await server.client.post(CHAT, json=body, headers={"x-api-key": key})
            return answer.raise_for_status().json()["usage"]["prompt_tokens"]

        turns = ({"role": "assistant", "content": "Hi."}, {"role": "user", "content": "more"})
        await num_prompt_tokens(ALICE)
        assert await num_prompt_tokens(BOB, *turns) < await num_prompt_tokens(ALICES_LAUNCH, *turns)


async def test_what_an_agent_opens_with_is_kept_for_its_own_key_alone(tmp_path: Path):
    """Restored under another key, it could be found there by guessing."""
    give_keys(tmp_path)
    system = "You help with a secret plan. " * 20
    async with serving(tmp_path, "Hi.") as server:
        for key, count in ((ALICE, 1), (BOB, 2), (ALICES_LAUNCH, 2)):
            body = {"agent": "pi", "model": MODEL}
            (await server.client.post("/v1/launches", json=body, headers={"x-api-key": key})).raise_for_status()
            await ask(server, key, "hello", system)
            assert len([path for path in (tmp_path / "openings").rglob("*") if path.is_file()]) == count


async def test_the_time_to_the_first_token_tells_nothing_of_another_keys_prompts(tmp_path: Path):
    give_keys(tmp_path)
    async with serving(tmp_path, "Hi.", prefill_seconds_per_token=400e-6) as server:
        await ask(server, BOB, "load the model")
        # The greatest distance of two distributions of 20 that are the same is below 0.62, 999 times in 1000. The first
        # series will do, but on a machine too busy for the clock of this test to tell anything.
        told: list[tuple[bool, bool]] = []
        while (True, False) not in told and len(told) < 4:
            own, known, unknown = await probe(server, len(told))
            told.append((distance(own, known) > 0.62, distance(known, unknown) > 0.62))
    assert (True, False) in told, "what nobody has asked takes longer, or the clock never told anything"


async def probe(server: Serving, series: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the first token: Alice's of what she asks again, Bob's of what only she has asked, and of what nobody
    has."""
    own, known, unknown = list[float](), list[float](), list[float]()
    for number in range(PROBES):
        text = f"{series} {number} " + "secret " * 60
        await ask(server, ALICE, text)
        own.append((await ask(server, ALICE, text))[1])
        known.append((await ask(server, BOB, text))[1])
        unknown.append((await ask(server, BOB, f"other {series} {number} " + "secret " * 60))[1])
    return own, known, unknown


def distance(left: list[float], right: list[float]) -> float:
    """Kolmogorov and Smirnov's."""
    points = sorted(left + right)
    return max(
        abs(sum(value <= point for value in left) / len(left) - sum(value <= point for value in right) / len(right))
        for point in points
    )
