"""A model's text side: what the API process knows of it without its weights.

Tokenizer, chat template and output formats are read from the model's folder; no MLX is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnsupportedModel
from ..events import Delta, TextDelta
from ..models.capabilities import read_capabilities
from ..models.catalog import ModelEntry
from ..parsers.stop_strings import StopStrings
from ..prompts.chat_template import ChatTemplate
from ..prompts.detokenizer import Detokenizer
from ..prompts.render import Prompt, Renderer
from ..prompts.tokenizer import Tokenizer
from ..requests import GenerationRequest, SamplingParams


@dataclass(frozen=True, slots=True)
class ModelText:
    """Renders requests to tokens and decodes answers from them.

    `context_window` counts tokens, prompt and answer together. `generation_defaults` are the model's own.
    """

    renderer: Renderer
    context_window: int
    stop_token_ids: tuple[int, ...]
    generation_defaults: SamplingParams

    @classmethod
    def read(cls, entry: ModelEntry) -> ModelText:
        """Raises `ModelError` saying what the folder lacks."""
        capabilities = read_capabilities(entry.path)
        source = capabilities.tool_template or capabilities.chat_template
        if not source:
            raise UnsupportedModel(f"{entry.id} has no chat template: it is a base model, or the file is missing")
        tokenizer = Tokenizer.from_folder(entry.path)
        return cls(
            renderer=Renderer(ChatTemplate(source, capabilities.special_tokens), tokenizer),
            context_window=entry.context_window,
            stop_token_ids=capabilities.stop_token_ids,
            generation_defaults=capabilities.sampling,
        )

    def render(self, request: GenerationRequest) -> Prompt:
        return self.renderer.render(request)

    def decoder(self, request: GenerationRequest, prompt: Prompt) -> AnswerDecoder:
        return AnswerDecoder(self.renderer.tokenizer, request, prompt)


class AnswerDecoder:
    """Token ids of one answer in, deltas out; `stop_sequence` is set once one has ended the answer."""

    def __init__(self, tokenizer: Tokenizer, request: GenerationRequest, prompt: Prompt) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt_ids=prompt.token_ids)
        self._stops = StopStrings(request.stop)

    @property
    def stop_sequence(self) -> str:
        return self._stops.found

    def feed(self, token_ids: list[int]) -> list[Delta]:
        return self._parse(self._stops.feed(self._detokenizer.feed(token_ids)))

    def finish(self) -> list[Delta]:
        """What was held back in case more would come."""
        return self._parse(self._stops.feed(self._detokenizer.finish()) + self._stops.finish())

    def _parse(self, text: str) -> list[Delta]:
        return [TextDelta(text)] if text else []
