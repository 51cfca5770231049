from __future__ import annotations

import pytest

from tests.torture.edits import torture


@pytest.mark.parametrize(
    ("dialect", "count"), [("json", 150), ("jsonc", 150), ("json5", 150), ("yaml", 30), ("toml", 80)]
)
def test_random_edits_change_what_was_asked_and_nothing_else(dialect, count):
    assert +torture(dialect, count, seed=2, show=1) == {"edits": count}
