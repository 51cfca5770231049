"""A tiny random model of bytes that writes under grammars, and the texts it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import tokenizers
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache

from omlx.server.cache.codec import CacheCodec
from omlx.server.cache.prefix_cache import PrefixCache
from omlx.server.engine.batch import BatchInfo
from omlx.server.engine.constraints import ModelMarks, build_grammar
from omlx.server.engine.decode_layout import DecodeLayout
from omlx.server.engine.grammar import GrammarCompiler
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.slot_layout import SlotLayout
from omlx.server.parsers.selection import Formats
from omlx.server.requests import GenerationRequest, Message, OutputFormat, Role, SamplingParams, Text

from ..text_model import END_OF_TURN, byte_tokenizer
from .driving import Answer, drain, make_engine

PLAIN = ModelMarks(Formats("hermes", "none"), {})


def request_for(output_format: OutputFormat | None = None, **fields: object) -> GenerationRequest:
    message = Message(Role.USER, (Text("x"),))
    return GenerationRequest("r", "m", (message,), output_format=output_format, **fields)  # pyright: ignore[reportArgumentType]


def grammar_of(output_format: OutputFormat) -> str:
    return build_grammar(request_for(output_format), PLAIN, False)


class Writer:
    """Runs requests on the model, all of them in one batch."""

    def __init__(self, folder: Path, layout: type[DecodeLayout] = SlotLayout, special: Sequence[str] = ()) -> None:
        self.tokenizer: tokenizers.Tokenizer = byte_tokenizer()
        self.tokenizer.add_special_tokens(list(special))
        self.stops = [self.token(END_OF_TURN)]
        self.tokenizer.save(str(folder / "tokenizer.json"))
        self.vocabulary = self.tokenizer.get_vocab_size() + 30  # padded, as real models' logits are
        mx.random.seed(11)
        self._model = llama.Model(
            llama.ModelArgs(
                model_type="llama",
                hidden_size=32,
                num_hidden_layers=1,
                intermediate_size=64,
                num_attention_heads=4,
                num_key_value_heads=2,
                rms_norm_eps=1e-5,
                vocab_size=self.vocabulary,
            )
        )
        self._layout = layout
        self.grammars = GrammarCompiler(folder / "tokenizer.json", self.vocabulary)

    def token(self, text: str) -> int:
        """The token that is this text."""
        token_id = self.tokenizer.token_to_id(text)
        assert token_id is not None
        return token_id

    def submit(
        self, request_id: str, grammar: str = "", sampling: SamplingParams | None = None, max_tokens: int = 3000
    ) -> Submit:
        prompt = self.tokenizer.encode(f"write {request_id}").ids
        sampling = sampling or SamplingParams(temperature=1.0, seed=len(request_id))
        return Submit(request_id, prompt, max_tokens, self.stops, sampling, grammar=grammar)

    def batch(self) -> MlxBatch:
        codec = CacheCodec(lambda: make_prompt_cache(self._model))
        cache = PrefixCache("test", 1 << 24)
        layout = self._layout(self._model)  # pyright: ignore[reportCallIssue]
        return MlxBatch(self._model, BatchInfo("test", 0), layout, codec, cache, self.vocabulary, self.grammars)

    def run(self, requests: Sequence[Submit]) -> dict[str, Answer]:
        """Every request to its end."""
        engine = make_engine(self.batch())
        for request in requests:
            engine.submit(request)
        return drain(engine)

    def text(self, answer: Answer) -> str:
        return self.tokenizer.decode(answer.token_ids)
