"""Which model is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from omlx.integrations import find
from omlx.integrations.spec import Model
from omlx.launcher.errors import ModelError
from omlx.launcher.selection import Selection, Wanted, choose, described, fit

SMALL = Model("small", 8192, 2048)
LARGE = Model("large", 131_072, 16_384, size_bytes=20_000_000_000, loaded=True)
BOTH = (SMALL, LARGE)


def pick_last(models: Sequence[Model]) -> Model:
    return models[-1]


def test_the_only_model_is_taken_unasked():
    assert choose([SMALL], Wanted(), None, None) == Selection(SMALL, SMALL, SMALL, SMALL)


def test_the_users_word_comes_first():
    assert choose(BOTH, Wanted("small"), "large", pick_last).model is SMALL


def test_then_the_last_one_used():
    assert choose(BOTH, Wanted(), "small", pick_last).model is SMALL


def test_a_last_one_that_is_no_longer_served_is_forgotten():
    assert choose(BOTH, Wanted(), "gone", pick_last).model is LARGE


def test_without_a_terminal_an_open_choice_lists_the_models():
    with pytest.raises(ModelError, match="--model") as refusal:
        choose(BOTH, Wanted(), None, None)
    assert "small  8,192 tokens" in str(refusal.value)
    assert "large  20.0 GB  131,072 tokens  loaded" in str(refusal.value)


def test_tiers_have_the_main_model_unless_named():
    assert choose(BOTH, Wanted("large", haiku="small"), None, None) == Selection(LARGE, LARGE, LARGE, SMALL)


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    with pytest.raises(ModelError, match="Did you mean 'large'") as refusal:
        choose(BOTH, Wanted("larg"), None, None)
    assert "small, large" in str(refusal.value)


def test_an_alias_is_a_name_too():
    fast = replace(SMALL, alias="fast")
    chosen = choose((fast, LARGE), Wanted("large", haiku="fast"), None, None)
    assert (chosen.model, chosen.haiku) == (LARGE, fast)
    with pytest.raises(ModelError, match=r"Did you mean 'fast'\? It has: small \(fast\), large"):
        choose((fast, LARGE), Wanted("fas"), None, None)


def test_a_name_goes_before_anothers_alias_as_it_does_on_the_server():
    misleading = replace(SMALL, alias="large")
    for models in ((misleading, LARGE), (LARGE, misleading)):
        assert choose(models, Wanted("large"), None, None).model is LARGE


def test_a_name_that_is_near_to_none_gets_no_suggestion():
    with pytest.raises(ModelError) as refusal:
        choose((replace(LARGE, name="random"),), Wanted("nope"), None, None)
    assert "Did you mean" not in str(refusal.value)
    assert "random" in str(refusal.value)


def test_a_server_without_models_says_how_to_add_one():
    with pytest.raises(ModelError, match="omlx import"):
        choose([], Wanted(), None, None)


def test_an_unknown_window_is_said_to_be_unknown():
    assert described(Model("m", None, 1)) == "m  window unknown"


def test_what_speaks_against_a_model_is_its_window_or_its_size():
    claude = find("claude")
    assert claude is not None
    assert fit(SMALL, claude, None) == "window too small for Claude Code (49,152)"
    assert fit(LARGE, claude, 24_000_000_000) == "larger than this machine's memory allows (24.0 GB)"
    assert fit(LARGE, claude, 48_000_000_000) == ""
    assert fit(Model("m", None, 1), claude, None) == ""
