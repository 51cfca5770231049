"""Recorded sessions of real agents on a real engine: from the second turn on the prompt comes from the cache.

What the model writes is given, so that the conversation goes on as it did; tokenizer, chat template, rendering, engine,
model and cache are real. The model is tiny and random, of each kind that caches differ by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import pytest

from omlx.server.cache.blocks import BLOCK_TOKENS
from omlx.server.dialects import anthropic_messages, openai_chat
from omlx.server.dialects.openai_response_store import ResponseStore
from omlx.server.dialects.openai_responses import ResponsesDialect
from omlx.server.engine import mlx_batch
from omlx.server.engine.messages import Submit
from omlx.server.engine.model_text import ModelText
from omlx.server.models.catalog import discover

from ..engine.driving import drain, make_engine
from ..tiny_model import build_tiny_model, needs_embedded_model
from .models import MODELS, batch_of
from .recording import FOLDER, Turn, read_recording

pytestmark = needs_embedded_model

RECORDINGS = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
WANTED = {"pi": 0.96}
"""The share that must come from the cache of each prompt from the second on, and of all of them together; Pi's prompts
are short. 98 % for all others."""
NEW_TOKENS = {("claude_reminders", 6): 1218}
"""Turns where more is new than that share leaves room for, and how much; everything before it comes from the cache.
Claude Code says what plan mode is in 5 KB, of a prompt of 14,540 tokens."""


@dataclass(frozen=True, slots=True)
class Step:
    """A turn as the engine sees it."""

    prompt: list[int]
    boundaries: list[int]
    answer: list[int]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    folder = tmp_path_factory.mktemp("models")
    build_tiny_model(folder / "tiny")
    (entry,) = discover([folder])
    return ModelText.read(entry)


@pytest.fixture(scope="module")
def sessions(text: ModelText) -> dict[str, list[Step]]:
    return {name: list(rendered(read_recording(FOLDER / f"{name}.jsonl"), text)) for name in RECORDINGS}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("agent", RECORDINGS)
def test_from_the_second_turn_on_the_prompt_comes_from_the_cache(
    agent: str, kind: str, sessions: dict[str, list[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = sessions[agent]
    cached = list(cached_tokens(steps, kind, monkeypatch))
    share = sum(cached[1:]) / sum(len(step.prompt) for step in steps[1:])
    each = " ".join(f"{found / len(step.prompt):.2%}" for found, step in zip(cached, steps, strict=True))
    print(f"{agent}, {kind}: {share:.2%} from the second turn on; {each}")

    assert len(cached) > 4
    assert cached[0] == 0
    assert share >= WANTED.get(agent, 0.98)
    checkpoint_tokens = 0 if kind == "plain" else BLOCK_TOKENS
    for number, (found, step) in list(enumerate(zip(cached, steps, strict=True)))[1:]:
        wanted = WANTED.get(agent, 0.98) * len(step.prompt)
        if (agent, number) in NEW_TOKENS:
            wanted = len(step.prompt) - NEW_TOKENS[agent, number] - checkpoint_tokens
        assert found >= wanted, f"turn {number}: {found} of {len(step.prompt)}"


def rendered(turns: list[Turn], text: ModelText) -> Iterator[Step]:
    """Each turn as the server renders it; the tokens of its answer as the model writes them."""
    dialects = {
        "/v1/chat/completions": openai_chat,
        "/v1/messages": anthropic_messages,
        "/v1/responses": ResponsesDialect(ResponseStore()),
    }
    end = text.renderer.tokenizer.encode("<|im_end|>")
    for number, turn in enumerate(turns):
        request = dialects[turn.path].decode(json.dumps(turn.body).encode(), f"turn{number}").request
        prompt = text.render(request)
        yield Step(prompt.token_ids, prompt.boundaries, [*text.renderer.tokenizer.encode(turn.answer), *end])


def cached_tokens(steps: list[Step], kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Play the steps on a fresh engine; how much of each prompt it found in its cache."""
    engine = make_engine(batch_of(MODELS[kind]()))
    for number, step in enumerate(steps):
        monkeypatch.setattr(mlx_batch, "choose", told(step.answer))
        name = f"turn{number}"
        engine.submit(
            Submit(
                name,
                step.prompt,
                len(step.answer),
                stop_token_ids=step.answer[-1:],
                boundaries=step.boundaries,
            )
        )
        answer = drain(engine)[name]
        assert answer.token_ids[: len(step.answer) - 1] == step.answer[:-1]
        yield answer.last.num_cached_tokens


def told(token_ids: list[int]) -> Callable[..., mx.array]:
    """In place of the sampler: the next of the tokens, whatever the model would have liked."""
    rest = iter(token_ids)
    return lambda _, samplers, **_how: mx.array([next(rest) for _ in samplers])
