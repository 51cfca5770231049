"""The server's settings beside a plain dictionary for each layer, through changes, refusals, restarts and editors."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from omlx.server.__main__ import commands
from omlx.server.api.admin import settings as admin
from omlx.server.errors import InvalidRequest, SettingsError
from omlx.server.requests import Json
from omlx.server.settings import ServeSettings
from omlx.server.settings.keys import keys
from omlx.server.settings.layers import Layer, layered
from omlx.server.settings.loading import load_document

from ..machines import CountingMachine, short

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "server.host": st.sampled_from(["127.0.0.1", "localhost", "::1"]),
    "server.port": st.integers(0, 65535),
    "server.model_dirs": st.lists(st.sampled_from(["/a", "b", "~/c"]), max_size=2),
    "server.max_body_bytes": st.sampled_from([1 << 20, "1MiB", "64 MB"]),
    "server.heartbeat_seconds": st.sampled_from([0.5, 9.0]),
    "cache.enabled": st.booleans(),
    "cache.folder": st.sampled_from(["/fast", "there"]),
    "cache.ram_bytes": st.sampled_from([5, "1GB"]),
    "engine.max_num_seqs": st.integers(1, 4096),
    "engine.stall_seconds": st.sampled_from([1.0, 300.0]),
}
NAMES = st.sampled_from(sorted(VALUES))
KEYS = {key.name: key for key in keys()}
CHANGES: st.SearchStrategy[dict[str, Json]] = st.fixed_dictionaries(
    {}, optional={name: st.none() | values for name, values in VALUES.items()}
)
BAD: st.SearchStrategy[dict[str, Json]] = st.sampled_from(
    [
        {"server.port": 70000},
        {"server.prot": 1},
        {"cache.enabled": "perhaps"},
        {"engine.max_num_seqs": 0},
        {"server.model_dirs": "/a"},
        {"models.a.pin": True},
        {"nonsense": 1},
    ]
)
UNKNOWN: dict[str, Json] = {
    "future": [1, {"x": None}],
    "server": {"warp": 9},
    "models": {"m": {"shape": "round", "pin": True}},
}
"""Stands in the file from the beginning; but for the one model's setting it means nothing here."""


def spelled(value: Json) -> str:
    """As a variable or an option has it."""
    return value if isinstance(value, str) else json.dumps(value)


class SettingsMachine(CountingMachine):
    """`written`, `environ` and `flags` say what each layer holds; `running` is what the server started with."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.path = self.home / "settings.json"
        self.path.write_text(json.dumps(UNKNOWN))
        self.written: dict[str, Json] = {}
        self.environ: dict[str, Json] = {}
        self.flags: dict[str, Json] = {}
        self.context: Any = None
        self.start()

    @rule(changes=CHANGES)
    def change_on_the_page(self, changes: dict[str, Json]) -> None:
        admin.change(self.context, changes)
        for name, value in changes.items():
            self.written.pop(name, None)
            if value is not None:
                self.written[name] = value

    @rule(good=CHANGES, bad=BAD)
    def change_badly(self, good: dict[str, Json], bad: dict[str, Json]) -> None:
        before = self.path.read_bytes()
        with pytest.raises(InvalidRequest):
            admin.change(self.context, {**good, **bad})
        assert self.path.read_bytes() == before

    @rule(name=NAMES, data=st.data())
    def set_by_command(self, name: str, data: st.DataObject) -> None:
        self.written[name] = data.draw(VALUES[name])
        assert self.command("set", name, "--", spelled(self.written[name])) == 0

    @rule(name=NAMES)
    def unset_by_command(self, name: str) -> None:
        self.written.pop(name, None)
        assert self.command("unset", name) == 0

    @rule(name=NAMES, data=st.data(), layer=st.sampled_from(["environ", "flags"]))
    def give_for_the_next_start(self, name: str, data: st.DataObject, layer: str) -> None:
        getattr(self, layer)[name] = data.draw(VALUES[name])

    @rule(name=NAMES, layer=st.sampled_from(["environ", "flags"]))
    def give_no_more(self, name: str, layer: str) -> None:
        getattr(self, layer).pop(name, None)

    @rule()
    def start(self) -> None:
        document, warnings = load_document(self.path)
        configuration = layered(document, self.variables(), self.options())
        assert not warnings
        assert sorted(warning.split(": ")[1].split(" is ")[0] for warning in configuration.warnings) == [
            "future",
            "models.m.shape",
            "server.warp",
        ]
        served = ServeSettings.of(configuration, self.home, "")
        self.context = SimpleNamespace(settings=served)
        self.in_force = {name: self.expected(name) for name in KEYS}
        assert (served.port, served.host) == (self.in_force["server.port"][0], self.in_force["server.host"][0])

    @rule(indent=st.sampled_from([None, 0, 7]), name=NAMES, data=st.data())
    def edit_by_hand(self, indent: int | None, name: str, data: st.DataObject) -> None:
        self.written[name] = data.draw(VALUES[name])
        content = json.loads(self.path.read_text())
        section, _, field = name.partition(".")
        content.setdefault(section, {})[field] = self.written[name]
        self.path.write_text(json.dumps(dict(reversed(content.items())), indent=indent))

    @precondition(lambda self: self.context is not None)
    @rule(
        garbage=st.sampled_from(["{", '{"server": 1}', '{"server": {"port": "x"}}', '{"cache": {"enabled": 3}}']),
        changes=CHANGES,
    )
    def break_and_mend(self, garbage: str, changes: dict[str, Json]) -> None:
        """A file that cannot be used starts no server, is not written to, and can be put right."""
        before = self.path.read_text()
        self.path.write_text(garbage)
        with pytest.raises(SettingsError, match=str(self.path)):
            layered(load_document(self.path)[0], self.variables(), self.options())
        with pytest.raises(InvalidRequest):
            admin.views(self.context)
        if not changes.keys() & {"server.port", "cache.enabled"}:  # which would mend it
            with pytest.raises(InvalidRequest):
                admin.change(self.context, changes)
            assert self.path.read_text() == garbage
        self.path.write_text(before)

    @rule(name=st.sampled_from(["server.port", "engine.max_num_seqs", "cache.enabled"]))
    def a_wrong_variable_starts_no_server(self, name: str) -> None:
        key = KEYS[name]
        with pytest.raises(SettingsError, match=f"the variable {key.variable}: "):
            layered(load_document(self.path)[0], {**self.variables(), key.variable: "wrong"}, self.options())

    def variables(self) -> dict[str, str]:
        return {KEYS[name].variable: spelled(value) for name, value in self.environ.items()}

    def options(self) -> dict[str, Json]:
        return {name: value if isinstance(value, list) else spelled(value) for name, value in self.flags.items()}

    def expected(self, name: str) -> tuple[Json, Layer]:
        for given, layer in [
            (self.flags, Layer.FLAG),
            (self.environ, Layer.ENVIRONMENT),
            (self.written, Layer.FILE),
        ]:
            if name in given:
                return given[name], layer
        return KEYS[name].default, Layer.DEFAULT

    def command(self, *arguments: str) -> int:
        env = {"OMLX_HOME": str(self.home), **{key.variable: None for key in KEYS.values()}}
        return CliRunner().invoke(commands, ["config", *arguments], env=env, catch_exceptions=False).exit_code

    @invariant()
    def each_layer_wins_over_the_one_below(self) -> None:
        values = layered(load_document(self.path)[0], self.variables(), self.options()).values
        assert {name: (values[name].value, values[name].layer) for name in self.in_force} == {
            name: self.expected(name) for name in self.in_force
        }

    @invariant()
    def the_page_tells_what_is_in_force_and_what_the_next_start_brings(self) -> None:
        for view in admin.views(self.context):
            value, layer = self.in_force[view.name]
            default = KEYS[view.name].default
            assert (view.value, view.origin) == (value, layer)
            assert (view.file_value, view.is_set_in_file) == (
                self.written.get(view.name, default),
                view.name in self.written,
            )
            is_free = layer in (Layer.DEFAULT, Layer.FILE)
            assert view.needs_restart == (is_free and view.file_value != value)

    @invariant()
    def the_rest_of_the_file_stays(self) -> None:
        content = json.loads(self.path.read_text())
        assert content["future"] == UNKNOWN["future"]
        assert content["server"]["warp"] == 9
        assert content["models"] == UNKNOWN["models"]
        for section in ("server", "cache", "engine"):
            names = {field for under, _, field in (name.partition(".") for name in self.written) if under == section}
            assert content.get(section, {}).keys() - {"warp"} == names

    def teardown(self) -> None:
        shutil.rmtree(self.home)


SettingsMachine.TestCase.settings = short(8, 12)
test_any_order_of_changes_starts_and_edits = SettingsMachine.TestCase
