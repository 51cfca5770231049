from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.errors import ContextOverflow, CorruptModel
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


def test_a_text_that_the_window_cannot_hold_is_told_by_its_length() -> None:
    with pytest.raises(ContextOverflow, match="prompt is too long"):
        tokenizer().check_length("x " * 1_000_000, 4096)
    tokenizer().check_length("x " * 1_000, 4096)
