"""Embeddings and reranking in the API process: texts into tokens, tokens to the engine, vectors back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import tokenizers

from ..errors import InputTooLong, InvalidRequest
from ..models.catalog import ModelEntry, ModelKind
from ..models.encoders.description import Encoding, read_encoding
from ..models.pool import ModelPool
from ..prompts.tokenizer import Tokenizer
from ..prompts.tokenizer_faults import tokenizer_fault
from ..requests import EmbeddingRequest, RerankRequest
from .ledger import RequestLedger
from .messages import Encode, EncoderInput
from .process import EngineProcess
from .record import RequestRecord

SizedT = TypeVar("SizedT", bound=Sized)

_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_BEFORE_PAIR = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_AFTER_PAIR = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""What Qwen3-Reranker was trained on, the family of language models that rerank (its model card)."""

_CHARACTERS_PER_TOKEN = 16
"""On average over a text: three times what English has, and more than code with its indents."""
_FEW_CHARACTERS = 100_000
"""So many may be encoded whatever the window: some tokenizers drop spaces, or make one token of a long word."""
_BATCH_CHARACTERS = 100_000
"""As many are encoded at once, some tens of milliseconds; between two batches others have their turn."""
_MAX_REPEATED_CHARACTERS = 32_000_000
"""Of a question that is encoded anew with each document."""
_MAX_TOKENS = 4_000_000
"""Of all texts of a request. Each takes some forty bytes until the engine has it."""


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

    @classmethod
    def read(cls, entry: ModelEntry) -> EncoderText:
        """Raises `ModelError`."""
        return cls(Tokenizer.from_folder(entry.path).backend, read_encoding(entry.path))

    @property
    def max_characters(self) -> int:
        """Of one text. No more of it is encoded, for what that takes of time and memory."""
        return max(_FEW_CHARACTERS, _CHARACTERS_PER_TOKEN * self.encoding.max_tokens)

    def inputs(self, given: Sequence[str | tuple[int, ...]]) -> Iterator[list[EncoderInput]]:
        """The inputs, batch by batch. Raises `InvalidRequest` for one that is longer than the model reads."""
        for index, one in enumerate(given):
            if isinstance(one, str):
                self._check_characters(one, f"input.{index}")
        numbers = itertools.count()
        for batch in _batches(given):
            encoded = iter(self._encode([one for one in batch if isinstance(one, str)], is_whole=True))
            found: list[EncoderInput] = []
            for one, index in zip(batch, numbers, strict=False):
                token_ids = next(encoded).ids if isinstance(one, str) else list(one)
                self._check_tokens(token_ids, f"input.{index}")
                found.append(EncoderInput(token_ids))
            yield found

    def pairs(self, asked: RerankRequest) -> Iterator[list[EncoderInput]]:
        """The query with each document, batch by batch. A document that does not fit is cut; a query that leaves no
        room for one is refused."""
        documents = [document[: self.max_characters] for document in asked.documents]
        return self._judged(asked, documents) if self.encoding.is_decoder else self._joined(asked.query, documents)

    def _joined(self, query: str, documents: Sequence[str]) -> Iterator[list[EncoderInput]]:
        self._check_characters(query, "query")
        [asked] = self._encode([query])
        room = self.encoding.max_tokens - self.backend.num_special_tokens_to_add(is_pair=True) - len(asked.ids)
        self._check_room(room)
        for batch in _batches(documents):
            found: list[EncoderInput] = []
            for document in self._encode(batch):
                document.truncate(room)
                whole = self._joint(asked, document)
                found.append(EncoderInput(whole.ids, whole.type_ids))
            yield found

    def _judged(self, asked: RerankRequest, documents: Sequence[str]) -> Iterator[list[EncoderInput]]:
        question = f"<Instruct>: {asked.instruction or _INSTRUCTION}\n<Query>: {asked.query}\n<Document>: "
        self._check_characters(question, "query")
        if len(question) * len(documents) > _MAX_REPEATED_CHARACTERS:
            message = f"is too long for {len(documents)} documents; send fewer of them at a time"
            raise InvalidRequest(message, "query")
        before, after, alone = (each.ids for each in self._encode([_BEFORE_PAIR, _AFTER_PAIR, question]))
        room = self.encoding.max_tokens - len(before) - len(after)
        self._check_room(room - len(alone))
        for batch in _batches(question + document for document in documents):
            yield [EncoderInput(before + pair.ids[:room] + after) for pair in self._encode(batch)]

    def _encode(self, texts: Sequence[str], is_whole: bool = False) -> list[tokenizers.Encoding]:
        """Each by itself, without the marks around it unless it `is_whole`. A batch of them leaves Python to others
        meanwhile; one text that is encoded alone does not. Raises `CorruptModel`."""
        try:
            return self.backend.encode_batch(texts, add_special_tokens=is_whole)
        except BaseException as error:
            raise tokenizer_fault(error) from None

    def _joint(self, query: tokenizers.Encoding, document: tokenizers.Encoding) -> tokenizers.Encoding:
        try:
            return self.backend.post_process(query, document)
        except BaseException as error:
            raise tokenizer_fault(error) from None

    def _check_characters(self, text: str, param: str) -> None:
        if len(text) > self.max_characters:
            message = f"input is too long: {len(text)} characters, of which at most {self.max_characters} are encoded"
            raise InvalidRequest(message, param)

    def _check_tokens(self, token_ids: list[int], param: str) -> None:
        vocabulary = self.backend.get_vocab_size()
        if len(token_ids) > self.encoding.max_tokens:
            raise InputTooLong(len(token_ids), self.encoding.max_tokens, param)
        if not token_ids or max(token_ids) >= vocabulary:
            words = "comes to no tokens" if not token_ids else f"has a token outside the vocabulary of {vocabulary}"
            raise InvalidRequest(words, param)

    def _check_room(self, num_tokens: int) -> None:
        if num_tokens < 1:
            raise InvalidRequest(f"leaves no room for a document in {self.encoding.max_tokens} tokens", "query")


def _batches(given: Iterable[SizedT]) -> Iterator[list[SizedT]]:
    batch: list[SizedT] = []
    size = 0
    for one in given:
        if batch and size + len(one) > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one)
    yield batch


Tokenize: TypeAlias = Callable[[EncoderText], Iterator[list[EncoderInput]]]


class Encoders:
    """Encodes on the pool's models. `agent` is who asks, for the `ledger`."""

    def __init__(
        self, pool: ModelPool[EngineProcess], text_of: Callable[[ModelEntry], EncoderText], ledger: RequestLedger
    ) -> None:
        self._pool = pool
        self._text_of = text_of
        self._ledger = ledger
        self._one_at_a_time = ThreadPoolExecutor(1, "tokenizing")
        """For the memory that it takes. A request comes batch by batch, so that none waits for all of another, and one
        whose client has left comes no more."""

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
        inputs, num_tokens = await self._tokenized(entry, tokenize)
        record.rendered(num_tokens)
        lease = await self._pool.lease(entry.id)
        try:
            with contextlib.closing(lease.engine.submit(Encode(record.request_id, inputs))) as stream:
                record.encoding()
                update = await stream.next()
        finally:
            lease.release()
        return Encoded(update.vectors, num_tokens)

    async def _tokenized(self, entry: ModelEntry, tokenize: Tokenize) -> tuple[list[EncoderInput], int]:
        """The inputs, and the tokens that all of them come to."""
        loop = asyncio.get_running_loop()
        batches = tokenize(await loop.run_in_executor(self._one_at_a_time, self._text_of, entry))
        inputs: list[EncoderInput] = []
        num_tokens = 0
        while batch := await loop.run_in_executor(self._one_at_a_time, next, batches, None):
            inputs += batch
            num_tokens += sum(len(each.token_ids) for each in batch)
            if num_tokens > _MAX_TOKENS:
                raise InvalidRequest(f"the texts come to more than {_MAX_TOKENS} tokens; send fewer of them at a time")
        return inputs, num_tokens
