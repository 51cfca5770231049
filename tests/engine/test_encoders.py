"""Texts on their way to a model that encodes: what is encoded, how often, and what is refused before that."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers
from tokenizers import normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from omlx.server.engine import encoders
from omlx.server.engine.encoders import Encoders, EncoderText
from omlx.server.engine.ledger import RequestLedger
from omlx.server.engine.messages import EncoderInput
from omlx.server.errors import CorruptModel, InvalidRequest
from omlx.server.metrics import Metrics
from omlx.server.models.catalog import ModelKind
from omlx.server.models.encoders.description import Encoding, Pooling
from omlx.server.requests import EmbeddingRequest, RerankRequest

VOCABULARY = {token: index for index, token in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "c"])}
MARKS = ("[SEP]", 2), ("[CLS]", 1)
PROCESSORS = [
    processors.BertProcessing(*MARKS),
    processors.RobertaProcessing(*MARKS),
    processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", list(MARKS)),
]
LONG = 999_000


class NotingTokenizer:
    """Notes what is encoded."""

    def __init__(self, processor: Any = PROCESSORS[0]) -> None:
        self.real = tokenizers.Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]"))
        self.real.normalizer = normalizers.BertNormalizer()
        self.real.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.real.post_processor = processor
        self.encoded: list[str] = []
        self.post_process = self.real.post_process
        self.num_special_tokens_to_add = self.real.num_special_tokens_to_add
        self.get_vocab_size = self.real.get_vocab_size

    def encode_batch(self, texts: Sequence[str], **options: bool) -> list[tokenizers.Encoding]:
        self.encoded += texts
        return self.real.encode_batch(texts, **options)


def text_of(backend: NotingTokenizer, *, max_tokens: int = 40, is_decoder: bool = False) -> EncoderText:
    return EncoderText(backend, Encoding(is_decoder, Pooling.FIRST, max_tokens))  # type: ignore[arg-type]


def rerank(query: str, documents: Sequence[str]) -> RerankRequest:
    return RerankRequest("req_1", "m", query, tuple(documents))


@pytest.mark.parametrize("fault", [{"pre_tokenizer": {"type": "FixedLength", "length": 0}}, {"normalizer": None}])
def test_a_tokenizer_that_panics_or_knows_no_unknown_word_is_a_corrupt_model(fault: dict[str, Any]):
    empty = tokenizers.Tokenizer(WordPiece({"a": 0}, unk_token="[UNK]"))
    broken = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(empty.to_str()), **fault}))
    text = EncoderText(broken, Encoding(False, Pooling.FIRST, 40))
    for asked in (lambda: text.inputs(["b c"]), lambda: text.pairs(rerank("b", ["c"]))):
        with pytest.raises(CorruptModel, match="the model's tokenizer fails"):
            list(asked())


def joined(batches: Iterator[list[EncoderInput]]) -> list[EncoderInput]:
    return list(itertools.chain.from_iterable(batches))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_query_is_encoded_once_and_its_pairs_are_those_of_the_tokenizer(processor: Any) -> None:
    backend, documents = NotingTokenizer(processor), ["a", "bb c bb", "c " * 50]
    pairs = joined(text_of(backend, max_tokens=20).pairs(rerank("a bb", documents)))

    expected = [backend.real.encode("a bb", document) for document in documents]
    assert backend.encoded == ["a bb", *documents]
    assert pairs[:2] == [EncoderInput(each.ids, each.type_ids) for each in expected[:2]]
    assert len(pairs[2].token_ids) == 20
    assert pairs[2].token_ids[-1] == expected[2].ids[-1]


@pytest.mark.parametrize("is_decoder", [False, True])
@pytest.mark.parametrize("query", ["a" * LONG, "a" + " " * LONG, "a " * LONG])
def test_an_endless_query_is_refused_before_it_is_encoded(query: str, is_decoder: bool) -> None:
    backend = NotingTokenizer()
    with pytest.raises(InvalidRequest, match=r"input is too long: \d+ characters, of which at most \d+ ") as refused:
        joined(text_of(backend, is_decoder=is_decoder).pairs(rerank(query, ["b"] * 1000)))
    assert (refused.value.param, backend.encoded) == ("query", [])


def test_an_endless_document_is_cut_before_it_is_encoded() -> None:
    backend = NotingTokenizer()
    joined(text_of(backend).pairs(rerank("a", ["b" * LONG])))
    assert max(map(len, backend.encoded)) == 100_000


@pytest.mark.parametrize("is_decoder", [False, True])
def test_of_a_document_with_more_space_than_words_all_that_fits_is_read(is_decoder: bool) -> None:
    text = text_of(NotingTokenizer(), max_tokens=200, is_decoder=is_decoder)
    thin, dense = (joined(text.pairs(rerank("a", [document]))) for document in (f"b{' ' * 9000}c", "b c"))
    assert thin == dense


def test_an_endless_input_is_refused_before_any_is_encoded() -> None:
    backend = NotingTokenizer()
    with pytest.raises(InvalidRequest, match=r"input is too long: \d+ characters, of which at most \d+ ") as refused:
        joined(text_of(backend).inputs(["a", "a" * LONG]))
    assert (refused.value.param, backend.encoded) == ("input.1", [])


def test_a_question_that_is_encoded_with_each_document_is_bounded_by_all_of_them() -> None:
    backend = NotingTokenizer()
    text = text_of(backend, max_tokens=1000, is_decoder=True)
    with pytest.raises(InvalidRequest, match="is too long for 1000 documents") as refused:
        joined(text.pairs(rerank("a" * 90_000, ["b"] * 1000)))
    assert (refused.value.param, backend.encoded) == ("query", [])
    assert len(joined(text.pairs(rerank("a" * 90_000, ["b"])))) == 1


def test_inputs_keep_their_order_and_numbers_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_BATCH_CHARACTERS", 2)
    batches = text_of(NotingTokenizer()).inputs(["a", (3, 4), "b", "c", "a a a", (9,)])
    assert [[each.token_ids for each in next(batches)] for _ in range(4)] == [
        [[1, 3, 2]], [[3, 4]], [[1, 4, 2], [1, 6, 2]], [[1, 3, 3, 3, 2]]
    ]  # fmt: skip
    with pytest.raises(InvalidRequest) as refused:
        next(batches)
    assert refused.value.param == "input.5"


class EndlessText:
    """Comes to one token after another."""

    num_batches = 0

    def inputs(self, _: object) -> Iterator[list[EncoderInput]]:
        while True:
            self.num_batches += 1
            yield [EncoderInput([1])]


def encoders_of(text: EndlessText) -> Encoders:
    entry = SimpleNamespace(id="m", kind=ModelKind.EMBEDDING, path=Path())
    return Encoders(SimpleNamespace(entry=lambda _: entry), lambda _: text, RequestLedger(Metrics(dict)))  # type: ignore[arg-type, return-value]


async def test_nothing_more_is_encoded_for_a_client_that_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    text = EndlessText()
    embedding = encoders_of(text)
    asked = asyncio.create_task(embedding.embed(EmbeddingRequest("left", "m", ("a",)), ""))
    while text.num_batches < 3:
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait({asked})
    num_batches = text.num_batches
    monkeypatch.setattr(encoders, "_MAX_TOKENS", 5)
    with pytest.raises(InvalidRequest, match="more than 5 tokens"):
        await embedding.embed(EmbeddingRequest("next", "m", ("a",)), "")
    assert text.num_batches <= num_batches + 1 + 6  # the one that was under way, and those of the next request
