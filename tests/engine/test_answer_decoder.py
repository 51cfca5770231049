"""Tokens into deltas: what is counted and told does not hang on how many tokens a step brings."""

from __future__ import annotations

import pytest

from omlx.server.engine.model_text import ModelText
from omlx.server.events import Delta, ReasoningDelta, TextDelta
from omlx.server.models.catalog import read_entry
from omlx.server.requests import GenerationRequest, Message, Role, Text

from ..text_model import build_text_model

REQUEST = GenerationRequest("r", "m", (Message(Role.USER, (Text("x"),)),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    """Its tokens are bytes, and its template knows `<think>`."""
    folder = tmp_path_factory.mktemp("models") / "m"
    build_text_model(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# <think></think> #}")
    return ModelText.read(read_entry(folder, "m"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_tokens_of_the_thinking_are_counted_one_by_one(model: ModelText, size: int) -> None:
    token_ids = model.renderer.tokenizer.encode("<think>Sí, 世界.</think>Done.")
    decoder = model.decoder(REQUEST, model.render(REQUEST))
    deltas: list[Delta] = []
    for start in range(0, len(token_ids), size):
        deltas += decoder.feed(token_ids[start : start + size])
    deltas += decoder.finish()

    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "Sí, 世界."
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "Done."
    assert decoder.num_reasoning_tokens == len("<think>Sí, 世界.".encode())


def test_many_tokens_at_once_are_told_as_one_piece(model: ModelText) -> None:
    decoder = model.decoder(REQUEST, model.render(REQUEST))
    token_ids = model.renderer.tokenizer.encode("<think>Well, well.</think>Good day. And good night")

    assert decoder.feed(token_ids) == [ReasoningDelta("Well, well."), TextDelta("Good day. And good night")]
