"""A model's text side: what the API process knows of it without its weights.

Tokenizer, chat template and output formats are read from the model's folder; no MLX is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import InvalidRequest, UnsupportedModel
from ..events import Delta, ReasoningDelta, TextDelta, TokenScore
from ..models.capabilities import read_capabilities
from ..models.catalog import ModelEntry
from ..parsers.call_syntax import thinking_syntax
from ..parsers.selection import RAW, Formats, choose_formats, make_parser
from ..prompts.detokenizer import Detokenizer
from ..prompts.render import Prompt, Renderer
from ..prompts.template_process import TemplateProcess
from ..prompts.token_bytes import TokenBytes
from ..prompts.tokenizer import Tokenizer
from ..requests import GenerationRequest, ReasoningOptions, SamplingParams
from ..settings.values import ModelSettings
from .constraints import ModelMarks, build_grammar
from .messages import ThinkingBudget, TokenLogprob
from .thinking_budget import budget_of

logger = logging.getLogger(__name__)

RAW_TEXT = Formats(tools=RAW, reasoning="none")


@dataclass(frozen=True, slots=True)
class ModelText:
    """Renders requests to tokens and decodes answers from them.

    `context_window` counts tokens, prompt and answer together. The defaults are for requests that say nothing
    of the matter; `max_tokens` None is as many as fit.
    """

    tokenizer: Tokenizer
    token_bytes: TokenBytes
    chat: Renderer | UnsupportedModel
    """The reason in its place, where the template is missing or broken: bare prompts can still be continued."""
    formats: Formats
    context_window: int
    stop_token_ids: tuple[int, ...]
    generation_defaults: SamplingParams
    max_tokens: int | None = None
    reasoning_defaults: ReasoningOptions = field(default_factory=ReasoningOptions)
    without_drafters: tuple[str, ...] = ()
    """See `Submit`."""

    @classmethod
    def read(cls, entry: ModelEntry) -> ModelText:
        """Raises `ModelError` saying what the folder lacks, but for a chat template."""
        capabilities = read_capabilities(entry.path)
        tokenizer = Tokenizer.from_folder(entry.path)
        source = capabilities.tool_template or capabilities.chat_template or ""
        try:
            chat = _renderer(entry, source, capabilities.special_tokens, tokenizer)
        except UnsupportedModel as error:
            chat = error
            logger.warning("%s: %s; it continues bare prompts only", entry.id, error)
        renders_tools = isinstance(chat, Renderer) and chat.traits.renders_tools
        return cls(
            tokenizer=tokenizer,
            token_bytes=TokenBytes(tokenizer),
            chat=chat,
            formats=choose_formats(source, renders_tools=renders_tools),
            context_window=entry.context_window,
            stop_token_ids=capabilities.stop_token_ids,
            generation_defaults=capabilities.sampling,
        )

    @property
    def renderer(self) -> Renderer:
        """Raises `InvalidRequest` for a model that has no chat template, or one that cannot be used."""
        if isinstance(self.chat, UnsupportedModel):
            raise InvalidRequest(f"{self.chat}; /v1/completions continues bare prompts without one", "model")
        return self.chat

    def configured(self, settings: ModelSettings) -> ModelText:
        """With the user's settings over the model's own. Raises `SettingsError` for a parser that is none."""
        window = settings.window(self.context_window)
        if window > self.context_window:
            logger.warning(
                "A window of %d is set; the model declares, or memory holds, %d", window, self.context_window
            )
        parsers = {
            "tool_format": settings.tool_parser or self.formats.tools,
            "reasoning_format": settings.reasoning_parser or self.formats.reasoning,
        }
        return replace(
            self,
            formats=choose_formats("", parsers),
            context_window=window,
            generation_defaults=settings.sampling.over(self.generation_defaults),
            max_tokens=settings.max_tokens,
            reasoning_defaults=ReasoningOptions(settings.thinking, budget_tokens=settings.thinking_budget),
            without_drafters=() if settings.mtp else ("mtp",),
        )

    def render(self, request: GenerationRequest, go_on: Callable[[], bool] = lambda: True) -> Prompt:
        """Raises `InvalidRequest` when the template refuses the conversation, or there is nothing to continue, and
        `ContextOverflow` where a long text is sure not to fit the window. A template that takes long is given up, with
        `RenderingGivenUp`, where `go_on` says that nobody waits for the prompt any more."""
        if request.prompt is None:
            if request.reasoning == ReasoningOptions():
                request = replace(request, reasoning=self.reasoning_defaults)
            try:
                return self.renderer.render(request, self.context_window, go_on)
            except UnsupportedModel as error:  # it is found only in rendering what a template may not do
                raise InvalidRequest(str(error), "model") from error
        token_ids = request.prompt
        if isinstance(token_ids, str):
            token_ids = self.tokenizer.encode(token_ids, self.context_window, request.cache_salt)
        vocabulary = self.tokenizer.backend.get_vocab_size()
        if token_ids and max(token_ids) >= vocabulary:
            raise InvalidRequest(f"token {max(token_ids)} is outside the vocabulary of {vocabulary}", "prompt")
        if not token_ids:
            raise InvalidRequest("prompt is empty; send at least one token", "prompt")
        return Prompt(list(token_ids), [len(token_ids)])

    def grammar(self, request: GenerationRequest, prompt: Prompt) -> str:
        """What the answer is held to, "" where that is nothing. Raises `InvalidRequest` as `build_grammar` does."""
        added = self.tokenizer.backend.get_added_tokens_decoder()
        special_ids = {token.content: token_id for token_id, token in added.items() if token.special}
        return build_grammar(request, ModelMarks(self.formats, special_ids), prompt.opens_reasoning)

    def thinking(self, request: GenerationRequest, prompt: Prompt) -> ThinkingBudget | None:
        """The budget of the answer's thinking in the model's own marks; None where it may think as it likes."""
        syntax = thinking_syntax(self.formats)
        if request.prompt is not None or syntax is None:
            return None
        num_tokens = budget_of(request, self.reasoning_defaults, self.renderer.template.variables)
        if num_tokens is None:
            return None
        encode = self.tokenizer.encode
        return ThinkingBudget(num_tokens, encode(syntax.start), encode(syntax.end), prompt.opens_reasoning)

    def scores(self, logprobs: Sequence[TokenLogprob]) -> tuple[TokenScore, ...]:
        """The engine's log probabilities in the words of events."""

        def score(token_id: int, logprob: float | None, top: tuple[TokenScore, ...] = ()) -> TokenScore:
            data = self.token_bytes[token_id]
            return TokenScore(data.decode(errors="replace"), data, logprob, top)

        return tuple(
            score(found.token_id, found.logprob, tuple(score(*pair) for pair in found.top)) for found in logprobs
        )

    def decoder(self, request: GenerationRequest, prompt: Prompt) -> AnswerDecoder:
        return AnswerDecoder(self, request, prompt)


class AnswerDecoder:
    """Token ids of one answer in, deltas out. `is_over` once the answer has ended though the model may go on: by a
    `stop_sequence`, or before a second call where the request allows one.

    `num_reasoning_tokens` counts the tokens whose text was told as reasoning, the mark that opens it with them.
    """

    def __init__(self, text: ModelText, request: GenerationRequest, prompt: Prompt) -> None:
        formats = text.formats if request.prompt is None else RAW_TEXT
        self._detokenizer = Detokenizer(text.tokenizer, formats.visible_markers, prompt.token_ids)
        self._request_id = request.request_id
        self.num_reasoning_tokens = 0
        self._num_untold_tokens = 0
        self._parser = make_parser(
            formats,
            request.tools,
            prompt.opens_reasoning,
            stop=request.stop,
            tool_choice=request.tool_choice,
            report=self._report,
        )

    @property
    def stop_sequence(self) -> str:
        return self._parser.stop_sequence

    @property
    def is_over(self) -> bool:
        return self._parser.is_over

    def feed(self, token_ids: list[int]) -> list[Delta]:
        deltas: list[Delta] = []
        for token_id in token_ids:
            self._num_untold_tokens += 1
            told = self._parser.feed(self._detokenizer.step(token_id))
            if told:
                self._count(told[0])
                deltas = _joined(deltas, told) if deltas else told
        return deltas

    def finish(self) -> list[Delta]:
        """What was held back in case more would come."""
        told = self._parser.feed(self._detokenizer.finish()) + self._parser.finish()
        if told:
            self._count(told[0])
        return told

    def _count(self, first: Delta) -> None:
        if isinstance(first, ReasoningDelta):
            self.num_reasoning_tokens += self._num_untold_tokens
        self._num_untold_tokens = 0

    def _report(self, line: str) -> None:
        logger.warning("request %s: %s", self._request_id, line)


def _renderer(entry: ModelEntry, source: str, special_tokens: Mapping[str, str], tokenizer: Tokenizer) -> Renderer:
    if not source:
        raise UnsupportedModel(f"{entry.id} has no chat template: it is a base model, or the file is missing")
    template = TemplateProcess(source, special_tokens)
    return Renderer(template, tokenizer, template.traits)


def _joined(deltas: list[Delta], told: list[Delta]) -> list[Delta]:
    """Both, as one delta where text goes on: many tokens at once are one piece to the client."""
    match deltas[-1], told[0]:
        case TextDelta(before), TextDelta(text):
            return [*deltas[:-1], TextDelta(before + text), *told[1:]]
        case ReasoningDelta(before), ReasoningDelta(text):
            return [*deltas[:-1], ReasoningDelta(before + text), *told[1:]]
    return deltas + told
