from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.launcher.documents import Delete, Set, Where, edit, read
from omlx.launcher.documents.json_plain import read_plain
from omlx.launcher.errors import DocumentError, EditError

OPENCODE = """\
// my settings
{
  "$schema": "https://opencode.ai/config.json", // keep
  "theme": 'x',
  "provider": {
    "other": {"npm": "x",}, /* mine */
    // "old": {}
  },
}
""".replace("'x'", '"x"')

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_a_new_provider_goes_below_the_last_one_and_every_other_line_stays():
    new = edit("jsonc", OPENCODE, [Set(("provider", "omlx"), {"npm": "y", "models": {"m": {}}})])
    added = '    "omlx": {\n      "npm": "y",\n      "models": {\n        "m": {}\n      }\n    },\n'
    assert new == OPENCODE.replace("/* mine */\n", "/* mine */\n" + added)


def test_a_value_is_replaced_in_its_place():
    new = edit("jsonc", OPENCODE, [Set(("theme",), "dark")])
    assert new == OPENCODE.replace('"theme": "x"', '"theme": "dark"')


def test_setting_what_stands_there_returns_the_same_text():
    assert edit("jsonc", OPENCODE, [Set(("provider", "other"), {"npm": "x"})]) == OPENCODE


def test_a_mapping_is_merged_so_that_comments_in_it_survive():
    text = '{"a": {"x": 1, /* one */ "y": 2}}'
    assert edit("jsonc", text, [Set(("a",), {"x": 3, "z": 4})]) == '{"a": {"x": 3, /* one */ "z": 4}}'


def test_adding_and_deleting_again_returns_the_same_bytes():
    for text in ('{\n  "a": 1 // one\n}\n', '{"a":1}', "{}", "[]", '\ufeff{\r\n\t"a": [1, 2,],\r\n}'):
        key = 0 if text == "[]" else "b"
        new = edit("jsonc", text, [Set((key,), {"c": [1, {"d": None}]})])
        assert edit("jsonc", new, [Delete((key,))]) == text


def test_a_comment_behind_a_deleted_entry_stays():
    text = '{\n  "a": 1, // about a\n  "b": 2 // about b\n}\n'
    assert edit("jsonc", text, [Delete(("b",))]) == '{\n  "a": 1 // about a\n  // about b\n}\n'


def test_json5_keeps_its_quotes_and_bare_keys():
    text = "{\n  name: 'x', // c\n  n: 0x1F,\n}\n"
    new = edit("json5", text, [Set(("limit",), {"a b": "y"})])
    assert new == "{\n  name: 'x', // c\n  n: 0x1F,\n  limit: {\n    'a b': 'y'\n  },\n}\n"


def test_crlf_and_bom_survive():
    new = edit("json", '\ufeff{\r\n    "a": 1\r\n}', [Set(("b",), {"c": 1})])
    assert new == '\ufeff{\r\n    "a": 1,\r\n    "b": {\r\n        "c": 1\r\n    }\r\n}'


def test_an_empty_file_becomes_an_object():
    assert edit("jsonc", "", [Set(("a", "b"), 1)]) == '{\n  "a": {\n    "b": 1\n  }\n}\n'
    assert edit("jsonc", "// only this\n", [Set(("a",), 1)]) == '// only this\n\n{\n  "a": 1\n}\n'


def test_a_list_item_is_found_by_its_key_and_appended_when_it_is_not_there():
    text = '{"models": [{"name": "a", "n": 1}]}'
    assert edit("json", text, [Set(("models", Where("name", "a"), "n"), 2)]) == text.replace("1", "2")
    new = edit("json", text, [Set(("models", Where("name", "b"), "n"), 2)])
    assert json.loads(new)["models"][1] == {"name": "b", "n": 2}


@pytest.mark.parametrize(
    ("dialect", "text", "line", "says"),
    [
        ("json", '{\n  "a": 1,\n  "a": 2\n}', 3, "a second time"),
        ("json", '{\n  "a": 1, // no\n}', 2, "no comments"),
        ("json", '{\n  "a": 1,\n}', 3, "no comma before"),
        ("jsonc", '{"a": 1\n "b": 2}', 2, "expected ','"),
        ("jsonc", '{"a": \n\n /* x', 3, "not closed"),
        ("jsonc", '{"a": "x\n"}', 1, "not closed on its line"),
        ("jsonc", "{a: 1}", 1, "double quotes"),
        ("jsonc", '{"a": 01}', 1, "begins no value"),
        ("jsonc", '{"a": 1} x', 1, "more text"),
        ("jsonc", '{"a": 1', 1, "ends before"),
        ("json5", "{a: '\\x1'}", 1, "bad escape"),
        ("json5", "{a: +}", 1, "expected a value"),
        ("json", '{"a": ' + "[" * 201 + "]" * 201 + "}", 1, "200 deep"),
        ("json", '{"a": ' + "9" * 5000 + "}", 1, "too many digits"),
        ("json", '"' + " " * 5_000_001 + '"', 1, "larger than 5 MB"),
        ("json", '"' + "é" * 2_500_000 + '"', 1, "larger than 5 MB"),
    ],
)
def test_what_the_dialect_does_not_allow_is_refused_with_its_line(dialect, text, line, says):
    with pytest.raises(DocumentError, match=says) as caught:
        edit(dialect, text, [Set(("b",), 1)])
    assert caught.value.line == line


def test_a_path_through_a_text_is_refused():
    with pytest.raises(DocumentError, match=r"line 1, column 2: a holds 'text', so a\.b cannot be set"):
        edit("json", '{"a": "text"}', [Set(("a", "b"), 1)])


def test_an_index_past_the_end_is_refused():
    for text, kind in (('{"a": [1]}', "a list of 1"), ('{"a": []}', "an empty list")):
        with pytest.raises(DocumentError, match=f"a holds {kind}"):
            edit("json", text, [Set(("a", 3), 1)])


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(EditError, match="JSON cannot hold"):
        edit("json", "{}", [Set(("a",), float("inf"))])


def test_null_counts_as_a_missing_parent():
    assert edit("json", '{"a": null}', [Set(("a", "b"), 1)]) == '{"a": {"b": 1}}'


def test_deleting_what_is_not_there_changes_nothing():
    assert edit("json", '{"a": 1}', [Delete(("b", "c"))]) == '{"a": 1}'


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=5), st.text(), VALUES)
def test_any_value_can_be_set_and_reads_back(model, key, value):
    for dialect in ("json", "json5"):
        text = json.dumps(model, indent=2, ensure_ascii=False)
        assert read(dialect, edit(dialect, text, [Set((key,), value)])) == {**model, key: value}


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="{}[]\"'\\,:/*0123456789.eE+-xntrue \n\ufeff"))
def test_the_two_readers_agree_on_what_the_strict_one_takes(text):
    for dialect in ("json", "jsonc", "json5"):
        try:
            value = read(dialect, text)
        except DocumentError:
            continue
        assert repr(read_plain(text)) == repr(value)
