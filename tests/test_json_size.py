"""What a JSON text holds is counted exactly, however it is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omlx.server.errors import InvalidRequest
from omlx.server.json_size import MAX_NODES, MAX_VALUES, JsonSize

TEXTS = st.text('ab\\"{[:,]}\n\u00e9')
JSON = st.recursive(
    st.none() | st.integers() | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


def fed(pieces: Iterable[bytes]) -> tuple[int, int]:
    size = JsonSize(free_bytes=0)
    for piece in pieces:
        size.feed(piece)
    return size.num_nodes, size.num_values


def counted(value: object) -> tuple[int, int]:
    children = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    nodes, values = zip((0, 0), *(counted(child) for child in children), strict=True)
    own = 1 + len(children) * isinstance(value, dict) if isinstance(value, dict | list) else 0
    return own + sum(nodes), max(0, len(children) - 1) + sum(values)


@given(JSON, st.booleans(), st.integers(1, 9))
def test_a_text_is_counted_as_it_is_read(value: object, ascii: bool, length: int):
    text = json.dumps(value, ensure_ascii=ascii).encode()
    assert fed(text[start : start + length] for start in range(0, len(text), length)) == counted(value)


def test_a_small_text_is_not_looked_at_and_one_that_grows_is_counted_from_its_beginning():
    size = JsonSize(free_bytes=9)
    size.feed(b'["a","b",')
    assert size.num_values == 0
    size.feed(b"3]")
    assert (size.num_nodes, size.num_values) == (1, 2)


def test_texts_are_counted_beside_one_another_and_what_is_open_in_one_ends_with_it():
    size = JsonSize(free_bytes=0)
    for text in (b'["a', b"[1,\\", b'"b"', b"[]"):
        size.feed_whole(text)
    assert (size.num_nodes, size.num_values) == (3, 1)


@pytest.mark.parametrize(
    ("piece", "limit"),
    [(b"[],", MAX_NODES), (b'{"a":1},', MAX_NODES // 2), (b'"a":1,', MAX_NODES), (b"1,", MAX_VALUES)],
)
def test_more_than_the_limit_is_refused_and_in_a_string_nothing_is_counted(piece: bytes, limit: int):
    assert limit in fed([piece * limit]) or 2 * limit in fed([piece * limit])
    with pytest.raises(InvalidRequest):
        fed([piece * limit, piece])
    assert fed([b'"', json.dumps(piece.decode() * 2 * limit).encode()[1:]]) == (0, 0)
