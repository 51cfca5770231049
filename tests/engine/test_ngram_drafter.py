"""Drafts found in the text itself."""

from __future__ import annotations

import random

from omlx.server.engine.ngram_drafter import NgramDrafter


def ngram_draft(token_ids: list[int], limit: int) -> list[int]:
    drafter = NgramDrafter()
    drafter.join("a", token_ids)
    return drafter.draft({"a": limit})["a"]


def test_a_draft_is_what_followed_the_same_tokens_the_last_time():
    assert ngram_draft([1, 2, 3, 4, 5, 9, 1, 2, 3, 7, 8, 0, 1, 2, 3], 4) == [7, 8, 0, 1]


def test_the_draft_is_longer_the_more_agrees():
    few = [9, 9, 9, 1, 2, 3, *range(50, 90), 8, 1, 2, 3]
    many = [*range(20), *range(50, 90), *range(20)]
    assert ngram_draft(few, 99) == list(range(50, 56))
    assert ngram_draft(many, 99) == list(range(50, 66))


def test_without_an_earlier_place_there_is_no_draft():
    assert ngram_draft([1, 2, 3, 4], 5) == []
    assert ngram_draft([1], 5) == []
    assert ngram_draft([1, 2, 3, 1, 2, 3], 0) == []


def test_what_is_being_repeated_goes_on_being_repeated():
    assert ngram_draft([7, 7, 7, 7], 4) == [7, 7, 7, 7]
    assert ngram_draft([1, 2, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]


def test_new_tokens_are_found_as_well():
    drafter, token_ids = NgramDrafter(), [1, 2, 3]
    drafter.join("a", token_ids)
    assert drafter.draft({"a": 2}) == {"a": []}
    token_ids += [4, 5, 1, 2, 3]
    assert drafter.draft({"a": 2}) == {"a": [4, 5]}


def test_of_many_places_the_one_where_most_of_the_text_before_agrees_is_taken():
    lines = [[10 + line, 20, 21, 22, 23, 24, 50 + line] for line in range(5)]
    text = [token for line in lines for token in line]
    assert ngram_draft([*text, *lines[0], *lines[1][:-1]], 3) == [51, 12, 20]
    assert ngram_draft([1, 2, 3, 4, 5, 1, 2, 3, 6, 7, 9, 1, 2, 3], 2) == [6, 7]  # the last of those that agree as far


def test_a_copy_goes_on_where_the_last_guess_was_found():
    drafter = NgramDrafter()
    lines = [[30 + line, 7, 8, 9] for line in range(100)]
    token_ids = [token for line in lines for token in line]
    drafter.join("a", token_ids)
    token_ids += [*lines[2], 33, 7]
    assert drafter.draft({"a": 4})["a"] == [8, 9, 34, 7]
    token_ids += [8, 9, 99, 7, 8, 9]  # changed, and now "7, 8, 9" stands at a hundred places
    assert drafter.draft({"a": 4})["a"] == lines[5]


def test_a_copy_goes_on_behind_a_word_that_was_changed():
    drafter, token_ids = NgramDrafter(), [*range(20, 60), 1, 2]
    drafter.join("a", token_ids)
    token_ids += [20, 21, 22, 23]
    assert drafter.draft({"a": 3})["a"] == [24, 25, 26]
    token_ids += [24, 99]
    assert drafter.draft({"a": 3})["a"] == [26, 27, 28]
    token_ids += [98]
    assert drafter.draft({"a": 3})["a"] == [27, 28, 29]
    token_ids += [97]
    assert drafter.draft({"a": 3})["a"] == []


def test_a_guess_is_the_same_however_the_text_came_to_be():
    dice = random.Random(3)
    text = [dice.randrange(5) for _ in range(400)]
    for length in range(150, 400, 10):
        drafter, grown = NgramDrafter(), text[:100]
        drafter.join("a", grown)
        for token in text[100:length]:
            drafter.draft({"a": 0})
            grown.append(token)
        assert drafter.draft({"a": 9})["a"] == ngram_draft(text[:length], 9)
