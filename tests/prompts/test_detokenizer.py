from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.prompts.detokenizer import Detokenizer
from omlx.server.prompts.tokenizer import MARK, Tokenizer

from .models import sentencepiece_backend, tokenizer


@settings(deadline=None, database=None, max_examples=60)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd" + MARK)))
def test_the_pieces_joined_are_the_text_and_each_is_whole_characters(text: str) -> None:
    detokenizer = Detokenizer(tokenizer())
    pieces = [detokenizer.feed([token_id]) for token_id in tokenizer().encode(tokenizer().defuse(text))]
    assert "".join(pieces) + detokenizer.finish() == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_an_answer_that_ends_inside_a_character_loses_only_that() -> None:
    detokenizer = Detokenizer(tokenizer())
    assert detokenizer.feed(tokenizer().encode("a😀é")[:-1]) + detokenizer.finish() == "a😀"


def test_a_leading_space_is_kept() -> None:
    assert Detokenizer(tokenizer()).feed(tokenizer().encode(" and")) == " and"


def test_a_leading_space_is_kept_after_a_prompt_where_the_tokenizer_drops_it_from_beginnings() -> None:
    spaced = Tokenizer(sentencepiece_backend())
    token_ids = spaced.encode("and")
    assert Detokenizer(spaced).feed(token_ids) == "and"
    assert Detokenizer(spaced, prompt_ids=spaced.encode("this")).feed(token_ids) == " and"


def test_control_tokens_vanish_unless_a_parser_reads_them() -> None:
    token_ids = tokenizer().encode("a<|im_start|>b<|im_end|>")
    assert Detokenizer(tokenizer()).feed(token_ids) == "ab"
    assert Detokenizer(tokenizer(), ["<|im_start|>user"]).feed(token_ids) == "a<|im_start|>b"


def test_tokens_fed_together_are_tokens_fed_one_by_one() -> None:
    token_ids = tokenizer().encode("x 😀\n\n y")
    one_by_one = Detokenizer(tokenizer())
    assert "".join(one_by_one.feed([i]) for i in token_ids) == Detokenizer(tokenizer()).feed(token_ids)
