"""The models' settings beside a plain dictionary, through changes, refusals, restarts and editors."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from omlx.server.errors import SettingsError
from omlx.server.requests import Json
from omlx.server.settings.model_store import ModelSettingsStore
from omlx.server.settings.values import ModelSettings

from ..machines import CountingMachine, short

MODELS = st.sampled_from(["a", "org/b", "c.d"])
GOOD = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.none() | st.integers(1, 5000),
        "top_p": st.none() | st.sampled_from([0.1, 1.0]),
        "pin": st.booleans(),
        "thinking": st.none() | st.booleans(),
    },
)
BAD: st.SearchStrategy[dict[str, Json]] = st.sampled_from(
    [{"top_p": 2}, {"max_tokens": 0}, {"max_tokens": "x"}, {"max_tokns": 1}, {"pin": 7}]
)


class StoreMachine(CountingMachine):
    """`written` is what the file says; after a refusal or a file gone wrong it is what is in force."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "settings.json"
        self.written: dict[str, dict[str, Json]] = {}
        self.path.write_text('{"future": [1]}')
        self.store = ModelSettingsStore(self.path)
        self.edits = 0

    @rule(model=MODELS, changes=GOOD)
    def change(self, model: str, changes: dict[str, Json]) -> None:
        fields = self.written.setdefault(model, {})
        for name, value in changes.items():
            fields.pop(name, None)
            if value is not None:
                fields[name] = value
        assert self.store.change(model, changes) == msgspec.convert(fields, ModelSettings)

    @rule(model=MODELS, good=GOOD, bad=BAD)
    def change_badly(self, model: str, good: dict[str, Json], bad: dict[str, Json]) -> None:
        before = self.path.read_bytes()
        with pytest.raises(SettingsError):
            self.store.change(model, {**good, **bad})
        assert self.path.read_bytes() == before

    @rule()
    def start_again(self) -> None:
        self.store = ModelSettingsStore(self.path)

    @rule(model=MODELS, tokens=st.integers(1, 99))
    def edit_by_hand(self, model: str, tokens: int) -> None:
        self.written.setdefault(model, {})["max_tokens"] = tokens
        self.put(json.dumps({"future": [1], "models": self.written}))

    @rule(garbage=st.sampled_from(["", "{", '{"models": 1}', '{"models": {"a": {"top_p": 9}}}']))
    def break_and_mend(self, garbage: str) -> None:
        """A file that cannot be used changes nothing, and can be put right."""
        before = self.path.read_text()
        self.put(garbage)
        self.what_was_written_holds()
        self.put(before)

    def put(self, text: str) -> None:
        self.edits += 1
        self.path.write_text(text)
        os.utime(self.path, ns=(self.edits * 10**9, self.edits * 10**9))

    @invariant()
    def what_was_written_holds(self) -> None:
        for model in ("a", "org/b", "c.d", "never"):
            assert self.store.get(model) == msgspec.convert(self.written.get(model, {}), ModelSettings)

    @invariant()
    def the_rest_of_the_file_stays(self) -> None:
        assert json.loads(self.path.read_text())["future"] == [1]

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = short(30, 20)
test_any_order_of_changes = StoreMachine.TestCase
