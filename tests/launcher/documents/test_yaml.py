from __future__ import annotations

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from omlx.launcher.documents import Delete, Set, Where, edit
from omlx.launcher.errors import DocumentError

HERMES = """\
# Hermes
model:
  default: "gpt"   # mine
  provider: 'other'

custom_providers:
- name: other  # by hand
  base_url: http://x
# the end of them

delegation:
notes: |
  two
  lines

# bye
"""


def test_a_provider_is_appended_in_the_manner_of_the_file_and_every_other_line_stays():
    entry = {"base_url": "http://127.0.0.1:8000/v1", "models": ["a", "yes"]}
    new = edit("yaml", HERMES, [Set(("custom_providers", Where("name", "omlx")), entry)])
    added = '- name: omlx\n  base_url: http://127.0.0.1:8000/v1\n  models:\n  - a\n  - "yes"\n'
    assert new == HERMES.replace("http://x\n", "http://x\n" + added)


def test_a_null_parent_becomes_a_mapping():
    new = edit("yaml", HERMES, [Set(("delegation", "model"), "m")])
    assert new == HERMES.replace("delegation:\n", "delegation:\n  model: m\n")


def test_quotes_and_the_comment_behind_a_value_stay():
    new = edit("yaml", HERMES, [Set(("model", "default"), "q"), Set(("model", "provider"), "it's")])
    assert new == HERMES.replace('"gpt"', '"q"').replace("'other'", "'it''s'")


def test_a_key_after_a_block_text_goes_above_the_blank_line():
    assert edit("yaml", HERMES, [Set(("x",), 1)]) == HERMES.replace("lines\n", "lines\nx: 1\n")


def test_a_text_that_keeps_its_blank_lines_is_not_changed_by_a_new_key():
    text = "a: |+\n  x\n\n"
    assert edit("yaml", text, [Set(("b",), 1)]) == "b: 1\n" + text
    text = "a: |\n  no line end"
    assert edit("yaml", text, [Set(("b",), 1)]) == "b: 1\n" + text


def test_deleting_the_last_key_leaves_an_empty_mapping():
    text = "a:  # c\n  b: 1\nc: 2\n"
    assert edit("yaml", text, [Delete(("a", "b"))]) == "a: {}  # c\nc: 2\n"


def test_deleting_the_first_key_of_an_item_keeps_the_dash():
    text = "a:\n  - name: x\n    url: y\n"
    assert edit("yaml", text, [Delete(("a", 0, "name"))]) == "a:\n  - url: y\n"


def test_adding_and_deleting_again_returns_the_same_bytes():
    for text in ("a: 1\n", "a: 1", "# c\na:\n  b: [1, 2] # d\n", "\ufeffa: 1\r\nb:\r\n- 1\r\n"):
        new = edit("yaml", text, [Set(("omlx",), {"x": [1, {"y": "no"}]})])
        assert edit("yaml", new, [Delete(("omlx",))]) == text


@pytest.mark.parametrize("word", ["yes", "No", "on", "OFF", "~", "null", "", "y", "1", "1_0", "0o7", "1:30", ".inf"])
def test_a_text_that_looks_like_something_else_is_quoted(word):
    new = edit("yaml", "a: 1\n", [Set((word,), word), Set(("list",), [word, {"k": word}])])
    assert yaml.safe_load(new) == {"a": 1, word: word, "list": [word, {"k": word}]}


@settings(max_examples=40, deadline=None)
@given(st.text(), st.text())
def test_any_text_can_be_set(key, text):
    assume(key not in ("a", "b"))
    new = edit("yaml", "a: 1\nb: {c: 1}\n", [Set((key, "deep"), text), Set(("b", key), [text])])
    expected = {"a": 1, "b": {"c": 1}, key: {"deep": text}}
    assert yaml.safe_load(new) == {**expected, "b": {**expected["b"], key: [text]}}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a second time"),
        ("a:\n\tb: 1\n", 2, "character '\\\\t'"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: [1\nb: 2\n", 2, "flow sequence from line 1:"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: !ours x\n", 1, "could not determine a constructor"),
        ("a: \x01\n", 1, "not allow"),
        ("a: " + "[" * 201 + "]" * 201, 1, "200 deep"),
        ("a: 2020-13-01\n", 1, "cannot be read"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(text, line, says):
    with pytest.raises(DocumentError, match=says) as caught:
        edit("yaml", text, [Set(("b",), 1)])
    assert caught.value.line == line


def test_an_edit_that_would_change_an_alias_too_is_refused():
    text = "a: &x\n  k: 1\n  j: 1\nb: *x\n"
    for changes in ([Set(("a", "k"), 2)], [Set(("c",), 1), Set(("a", "k"), 2)]):
        with pytest.raises(DocumentError, match=r"a\.k cannot be changed without changing other values") as told:
            edit("yaml", text, changes)
        assert told.value.line == 2
    with pytest.raises(DocumentError, match="'b' comes from another place, by an alias") as caught:
        edit("yaml", text, [Set(("b", "k"), 2)])
    assert caught.value.line == 4


def test_a_key_over_a_merged_one_is_added_to_the_mapping_itself():
    text = "d: &d\n  k: 1\nb:\n  <<: *d\n"
    assert edit("yaml", text, [Set(("b", "k"), 2)]) == text + "  k: 2\n"
    with pytest.raises(DocumentError, match=r"'k' comes from another place, .* write it out here by itself") as caught:
        edit("yaml", text, [Delete(("b", "k"))])
    assert caught.value.line == 3


def test_a_key_below_a_merged_mapping_is_refused_with_the_line_of_what_merges_it():
    text = "d: &d\n  m: {k: 1}\n\nb:\n  x: 1\n  <<: *d\n"
    with pytest.raises(DocumentError, match=r"'m' comes from another place, .* a merge \(`<<`\)") as caught:
        edit("yaml", text, [Set(("b", "m", "j"), 2)])
    assert caught.value.line == 4
