"""Embeddings and reranking in the API process: texts into tokens, tokens to the engine, vectors back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import tokenizers

from ..errors import InputTooLong, InvalidRequest
from ..models.catalog import ModelEntry, ModelKind
from ..models.encoders.description import Encoding, read_encoding
from ..models.pool import ModelPool
from ..prompts.tokenizer import Tokenizer
from ..requests import EmbeddingRequest, RerankRequest
from .ledger import RequestLedger
from .messages import Encode, EncoderInput
from .process import EngineProcess
from .record import RequestRecord

_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_BEFORE_PAIR = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_AFTER_PAIR = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""What Qwen3-Reranker was trained on, the family of language models that rerank (its model card)."""

_FEW_CHARACTERS = 1_000_000
"""So many may be encoded whatever they come to: some tokenizers drop spaces, or make one token of a long word."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector of float32 for each input, little-endian, and the tokens that all of them came to."""

    vectors: list[bytes]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class EncoderText:
    """The text side of a model that encodes."""

    backend: tokenizers.Tokenizer
    encoding: Encoding
    max_characters: int
    """Of one text. A longer one surely has too many tokens, and is not encoded, for what that takes of memory."""

    @classmethod
    def read(cls, entry: ModelEntry) -> EncoderText:
        """Raises `ModelError`."""
        tokenizer = Tokenizer.from_folder(entry.path)
        encoding = read_encoding(entry.path)
        max_characters = max(_FEW_CHARACTERS, encoding.max_tokens * tokenizer.longest_token)
        return cls(tokenizer.backend, encoding, max_characters)

    def inputs(self, given: Sequence[str | tuple[int, ...]]) -> list[EncoderInput]:
        """Raises `InvalidRequest` for one that is longer than the model reads."""
        vocabulary = self.backend.get_vocab_size()
        found: list[EncoderInput] = []
        for index, one in enumerate(given):
            if isinstance(one, str) and len(one) > self.max_characters:
                estimate = len(one) * self.encoding.max_tokens // self.max_characters
                raise InputTooLong(estimate, self.encoding.max_tokens, f"input.{index}")
            token_ids = self.backend.encode(one).ids if isinstance(one, str) else list(one)
            if len(token_ids) > self.encoding.max_tokens:
                raise InputTooLong(len(token_ids), self.encoding.max_tokens, f"input.{index}")
            if not token_ids or max(token_ids) >= vocabulary:
                words = "comes to no tokens" if not token_ids else f"has a token outside the vocabulary of {vocabulary}"
                raise InvalidRequest(words, f"input.{index}")
            found.append(EncoderInput(token_ids))
        return found

    def pairs(self, asked: RerankRequest) -> list[EncoderInput]:
        """The query with each document. A document that does not fit is cut; a query alone that does not is refused."""
        pair = self._judged if self.encoding.is_decoder else self._joined
        if len(asked.query) + len(asked.instruction) > self.max_characters:
            self._kept(0)
        return [pair(asked, document[: self.max_characters]) for document in asked.documents]

    def _joined(self, asked: RerankRequest, document: str) -> EncoderInput:
        whole = self.backend.encode(asked.query, document)
        surplus = len(whole.ids) - self.encoding.max_tokens
        if surplus > 0:
            spans = self.backend.encode(document, add_special_tokens=False).offsets
            kept = self._kept(len(spans) - surplus)
            whole = self.backend.encode(asked.query, document[: spans[kept - 1][1]])
        return EncoderInput(whole.ids, whole.type_ids)

    def _judged(self, asked: RerankRequest, document: str) -> EncoderInput:
        def encode(text: str) -> list[int]:
            return self.backend.encode(text, add_special_tokens=False).ids

        question = f"<Instruct>: {asked.instruction or _INSTRUCTION}\n<Query>: {asked.query}\n<Document>: "
        before, after = encode(_BEFORE_PAIR), encode(_AFTER_PAIR)
        pair = encode(question + document)
        room = self.encoding.max_tokens - len(before) - len(after)
        if len(pair) > room:
            self._kept(room - len(encode(question)))
        return EncoderInput(before + pair[:room] + after)

    def _kept(self, num_tokens: int) -> int:
        if num_tokens < 1:
            raise InvalidRequest(f"leaves no room for a document in {self.encoding.max_tokens} tokens", "query")
        return num_tokens


Tokenize: TypeAlias = Callable[[EncoderText], list[EncoderInput]]


class Encoders:
    """Encodes on the pool's models. `agent` is who asks, for the `ledger`."""

    def __init__(
        self, pool: ModelPool[EngineProcess], text_of: Callable[[ModelEntry], EncoderText], ledger: RequestLedger
    ) -> None:
        self._pool = pool
        self._text_of = text_of
        self._ledger = ledger
        self._one_at_a_time = ThreadPoolExecutor(1, "tokenizing")
        """For the memory that it takes."""

    async def embed(self, asked: EmbeddingRequest, agent: str) -> Encoded:
        """Raises `RequestError` and `ServiceError`."""
        entry = self._entry(asked.model, ModelKind.EMBEDDING, "/v1/embeddings")
        record = self._ledger.open(asked.request_id, agent, entry.id)
        return await self._recorded(record, entry, lambda text: text.inputs(asked.inputs))

    async def rerank(self, asked: RerankRequest, agent: str) -> Encoded:
        """A vector of one number for each document, the better the nearer to 1."""
        entry = self._entry(asked.model, ModelKind.RERANKER, "/v1/rerank")
        record = self._ledger.open(asked.request_id, agent, entry.id)
        return await self._recorded(record, entry, lambda text: text.pairs(asked))

    def _entry(self, model: str, kind: ModelKind, path: str) -> ModelEntry:
        entry = self._pool.entry(model)
        if entry.kind is not kind:
            fit = [each.id for each in self._pool.entries if each.kind is kind]
            others = f"there: {', '.join(fit)}" if fit else "there is none here"
            raise InvalidRequest(f"{entry.id} is of kind {entry.kind}; {path} wants {kind}, {others}", "model")
        return entry

    async def _recorded(self, record: RequestRecord, entry: ModelEntry, tokenize: Tokenize) -> Encoded:
        try:
            encoded = await self._encode(record, entry, tokenize)
        except BaseException as error:
            record.failed(error)
            raise
        record.encoded()
        return encoded

    async def _encode(self, record: RequestRecord, entry: ModelEntry, tokenize: Tokenize) -> Encoded:
        loop = asyncio.get_running_loop()
        inputs = await loop.run_in_executor(self._one_at_a_time, lambda: tokenize(self._text_of(entry)))
        num_tokens = sum(len(each.token_ids) for each in inputs)
        record.rendered(num_tokens)
        lease = await self._pool.lease(entry.id)
        try:
            with contextlib.closing(lease.engine.submit(Encode(record.request_id, inputs))) as stream:
                record.encoding()
                update = await stream.next()
        finally:
            lease.release()
        return Encoded(update.vectors, num_tokens)
