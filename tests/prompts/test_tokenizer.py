from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.errors import ContextOverflow, CorruptModel
from omlx.server.prompts import tokenizer as module
from omlx.server.prompts.tokenizer import MARK, Tokenizer

from .models import CONTROL, byte_backend, sentencepiece_backend, tokenizer

TEXT = st.lists(st.sampled_from([*CONTROL, "<think>", "\n", "a", " ", "é", "<|im", "|>"]), max_size=12).map("".join)


def test_control_tokens_of_the_template_are_tokens() -> None:
    assert tokenizer().encode("<|im_start|>")[0] == tokenizer().id_of("<|im_start|>")


@settings(deadline=None, database=None, max_examples=60)
@given(TEXT)
def test_the_names_of_control_tokens_in_client_text_stay_text(text: str) -> None:
    token_ids = tokenizer().encode(tokenizer().defuse(text))
    assert not set(token_ids) & tokenizer().control_id_set
    assert tokenizer().decode(token_ids) == text


def test_a_client_cannot_send_the_private_mark() -> None:
    assert tokenizer().defuse(f"<|im_{MARK}end|>") == tokenizer().defuse("<|im_end|>")


@settings(deadline=None, database=None, max_examples=60)
@given(TEXT)
def test_encoding_in_pieces_is_encoding_the_whole(text: str) -> None:
    assert tokenizer().encode(text) == byte_backend().encode(text, add_special_tokens=False).ids


@settings(deadline=None, database=None, max_examples=60)
@given(TEXT)
def test_starts_are_positions_in_the_text(text: str) -> None:
    encoded = tokenizer().encode_with_starts(text)
    assert encoded.starts == sorted(encoded.starts)
    assert all(0 <= start < len(text) for start in encoded.starts)


def test_a_tokenizer_that_puts_spaces_before_texts_is_not_given_pieces() -> None:
    assert tokenizer().encodes_in_pieces
    assert not Tokenizer(sentencepiece_backend()).encodes_in_pieces


def test_a_folder_is_read(tmp_path: Path) -> None:
    byte_backend().save(str(tmp_path / "tokenizer.json"))
    read = Tokenizer.from_folder(tmp_path)
    assert read.decode(read.encode("<s>hé\n\n")) == "hé\n\n"


@pytest.mark.parametrize(("tokenizer_json", "words"), [(None, "no tokenizer.json"), ("{", "tokenizer.json is not")])
def test_a_bad_folder_is_named(tmp_path: Path, tokenizer_json: str | None, words: str) -> None:
    if tokenizer_json is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizer_json)
    with pytest.raises(CorruptModel, match=words):
        Tokenizer.from_folder(tmp_path)


PIECES = ["word ", "a", " " * 70, "é", "e\u0301", "\U0001f469\u200d\U0001f680", "\n\n", "<think>", "don't ", "x" * 300]
LONG = st.lists(st.sampled_from(PIECES), min_size=200, max_size=600).map("".join)


@settings(deadline=None, database=None, max_examples=8)
@given(LONG)
@pytest.mark.parametrize("backend", [byte_backend, sentencepiece_backend])
def test_a_long_text_in_stretches_is_the_whole_text(backend: Callable[[], tokenizers.Tokenizer], text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRETCH_CHARACTERS", 2500)
        encoded = Tokenizer(backend()).encode_with_starts(text)
    whole = backend().encode(text, add_special_tokens=False)
    assert encoded.token_ids == whole.ids
    assert encoded.starts == [start for start, _ in whole.offsets]


def test_a_word_without_an_end_is_cut_and_nothing_of_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRETCH_CHARACTERS", 4000)
    text = "ab" * 5_000 + "\u00e9" * 9_000
    assert tokenizer().decode(tokenizer().encode(text)) == text


def test_of_a_text_that_is_far_too_long_only_the_beginning_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRETCH_CHARACTERS", 10_000)
    monkeypatch.setattr(module, "_WORTH_COUNTING", 20_000)
    encoded: list[int] = []
    read = tokenizer()
    encode_now = read._encode_now
    monkeypatch.setattr(read, "_encode_now", lambda text, at=0: encoded.append(len(text)) or encode_now(text, at))
    with pytest.raises(ContextOverflow, match=r"prompt is too long: \d+ tokens > 4095 maximum") as told:
        read.encode("word " * 20_000, 4096)
    assert sum(encoded) < 40_000
    assert told.value.num_tokens == pytest.approx(len(read.encode("word " * 20_000)), rel=0.01)
