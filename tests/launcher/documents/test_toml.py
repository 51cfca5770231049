from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.launcher.documents import Delete, Set, edit
from omlx.launcher.errors import DocumentError, EditError

CODEX = """\
# Codex
model = 'gpt' # mine
tui.theme = "dark"

# what follows is about tools
[tools]
web = true

# my profiles
[profiles.work]
model = "x"
list = [
  1, # one
  2
]
"""


def test_a_root_key_goes_above_the_comment_of_the_next_table():
    new = edit("toml", CODEX, [Set(("model_provider",), "omlx")])
    assert new == CODEX.replace('"dark"\n', '"dark"\nmodel_provider = "omlx"\n')


def test_a_new_table_gets_its_own_header_at_the_end():
    new = edit("toml", CODEX, [Set(("model_providers", "omlx"), {"name": "omlx", "headers": {"x-a": "b"}})])
    assert new == CODEX + '\n[model_providers.omlx]\nname = "omlx"\n\n[model_providers.omlx.headers]\nx-a = "b"\n'
    assert edit("toml", new, [Delete(("model_providers",))]) == CODEX


def test_a_table_of_a_family_goes_behind_its_last_one():
    new = edit("toml", CODEX + "\n[z]\n", [Set(("profiles", "omlx"), {"model": "m"})])
    assert new == CODEX + '\n[profiles.omlx]\nmodel = "m"\n\n[z]\n'


def test_values_and_lists_are_edited_in_their_place():
    new = edit(
        "toml", CODEX, [Set(("model",), "q"), Set(("profiles", "work", "list", 2), 3), Set(("tui", "x"), {"y": 1})]
    )
    assert new == CODEX.replace("'gpt'", "'q'").replace("  2\n", "  2,\n  3\n").replace(
        '"dark"\n', '"dark"\ntui.x = {y = 1}\n'
    )


def test_deleting_the_last_key_of_a_table_leaves_the_table():
    assert edit("toml", "[a]\nb = 1 # c\n", [Delete(("a", "b"))]) == "[a]\n# c\n"
    assert tomllib.loads(edit("toml", "a.b = 1\n[c.d]\ne = 1\n", [Delete(("a", "b")), Delete(("c", "d"))])) == {
        "a": {},
        "c": {},
    }


def test_lists_of_tables_grow_and_shrink():
    text = "[[m]]\nn = 1\n\n[m.sub]\nx = 1\n\n[z]\n"
    new = edit("toml", text, [Set(("m", 1), {"n": 2}), Set(("m", 0, "sub", "y"), 2)])
    assert tomllib.loads(new)["m"] == [{"n": 1, "sub": {"x": 1, "y": 2}}, {"n": 2}]
    assert edit("toml", new, [Delete(("m", 1)), Delete(("m", 0, "sub", "y"))]) == text


def test_crlf_bom_and_a_missing_final_line_end_survive():
    new = edit("toml", "\ufeffa = 1\r\n[b]\r\nc = 2", [Set(("d", "e"), 1), Set(("b", "x"), 1)])
    assert new == "\ufeffa = 1\r\n[b]\r\nc = 2\r\nx = 1\r\n\r\n[d]\r\ne = 1"


def test_dates_and_texts_of_several_lines_are_stepped_over():
    text = "d = 1979-05-27 07:32:00Z\nt = \"\"\"\n[not.a.header]\nx = 1\"\"\"\nl = '''a'''\n"
    assert edit("toml", text, [Set(("x",), 1)]) == text + "x = 1\n"


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])),
)
def test_any_text_can_be_set(key, text):
    new = edit("toml", "[other]\nx = 1\n", [Set((key, "k"), text), Set(("other", "y"), [text])])
    expected = {"other": {"x": 1, "y": [text]}}
    assert tomllib.loads(new) == (
        {"other": {"x": 1, "k": text, "y": [text]}} if key == "other" else {key: {"k": text}, **expected}
    )


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a = 1\na = 2\n", 2, "the key 'a' stands here a second time"),
        ("[t]\nx.y = 1\n[u]\ny = 1\n[t.v]\n[w]\ny = '''\n1'''\nz = 2\ny = 3\n", 10, "the key 'w.y' stands"),
        ("a = 1\n\n[a]\n", 3, "the key 'a' stands here a second time"),
        ("a.b = 1\na = 2\n", 2, "the key 'a' stands here a second time"),
        ("[[a]]\nb = 1\n[[a]]\nb = 1\nb.c = 2\n", 5, "the key 'a.*b' stands here a second time"),
        ("a = [1\n", 2, "Unclosed array"),
        ("a = 1\nb\n", 2, "Expected '='"),
        ("a = " + "[" * 201 + "]" * 201, 1, "200 deep"),
        ("a = 1\r\r\n", 1, "Expected newline"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text, line, says):
    with pytest.raises(DocumentError, match=says) as caught:
        edit("toml", text, [Set(("b",), 1)])
    assert caught.value.line == line


def test_null_has_no_place_in_toml():
    with pytest.raises(EditError, match="cannot hold null"):
        edit("toml", "", [Set(("a",), None)])
