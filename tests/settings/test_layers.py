"""Default < file < environment < option; what is wrong in a file, and where."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omlx.server.errors import SettingsError
from omlx.server.parsers import reasoning
from omlx.server.parsers.selection import TOOL_FORMATS
from omlx.server.settings.document import parse_document, read_document, write_document
from omlx.server.settings.json_schema import json_schema
from omlx.server.settings.keys import SECTIONS, find_key, keys, model_keys
from omlx.server.settings.layers import Layer, layered, read_values
from omlx.server.settings.serve import ServeSettings
from omlx.server.settings.values import size_in_bytes

from .settings_page import settings_page

NAMES = st.sampled_from(["version", "server", "cache", "models", "port", "host", "m", "alias", "top_p", "ram_bytes"])
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
FILE = Path("/omlx/settings.json")
TEXT = """{
  "version": 1,
  "server": {
    "host": "localhost",
    "port": 9000
  },
  "models": {"org/Qwen2.5": {"alias": "coder",
                             "max_tokens": 100}}
}"""


def test_what_the_settings_take_is_looked_up_once(monkeypatch: pytest.MonkeyPatch):
    before = keys(), model_keys("m")
    monkeypatch.setattr("omlx.server.settings.keys.get_type_hints", None)
    assert (keys(), model_keys("m")) == before


def test_each_layer_wins_over_the_one_below_and_is_named():
    document = parse_document(FILE, TEXT)
    found = layered(document, {"OMLX_PORT": "9001", "OMLX_MAX_NUM_SEQS": "4"}, {"engine.max_num_seqs": "8"}).values
    assert (found["server.heartbeat_seconds"].value, found["server.heartbeat_seconds"].layer) == (9.0, Layer.DEFAULT)
    assert (found["server.host"].value, found["server.host"].place) == ("localhost", "/omlx/settings.json:4")
    assert (found["server.port"].value, found["server.port"].place) == (9001, "OMLX_PORT")
    assert (found["engine.max_num_seqs"].value, found["engine.max_num_seqs"].place) == (8, "--max-num-seqs")
    assert found["models.org/Qwen2.5.max_tokens"].place == "/omlx/settings.json:8"


def test_the_values_become_what_the_server_runs_with():
    text = '{"server": {"max_body_bytes": "1 MiB", "model_dirs": ["more"]}, "cache": {"folder": "/fast"}}'
    configuration = layered(parse_document(FILE, text), {"OMLX_SHUTDOWN_GRACE_SECONDS": "0"}, {"server.port": "0"})
    served = ServeSettings.of(configuration, Path("/omlx"), "")
    assert served.model_dirs == (Path("/omlx/more"),)
    assert (served.max_body_bytes, served.cache_folder) == (1 << 20, Path("/fast"))
    assert (served.port, served.shutdown_grace_seconds) == (0, 0.0)
    assert ServeSettings.of(layered(parse_document(FILE, "{}"), {}, {}), Path("/omlx"), "") == ServeSettings(
        Path("/omlx"), (Path("/omlx/models"),)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: is not valid JSON"),
        ('{\n  "server": {,}\n}', ":2: is not valid JSON"),
        ('{"server": {"port": 1,\n }}', ":1: is not valid JSON (a comma before }, with nothing between them); take"),
        ('{"server": {"model_dirs": ["a"\n, ]}}', ":2: is not valid JSON (a comma before ], with nothing"),
        ("[]", ":1: holds no object"),
        ('{"server":\n {"port": NaN}}', "NaN is no number"),
        ("[" * 100_000, "is not valid JSON"),
        ('{\n"server": 5}', ":2: server is 5 where an object"),
        (
            '{"server": {\n"port": 70000}}',
            ":2: server.port is 70000: expected a whole number <= 65535; correct it, or run",
        ),
        ('{"server": {\n"port": true}}', ":2: server.port is True: expected a whole number"),
        ('{"server": {\n"port": 1,\n"port": 2}}', ":3: server.port stands here a second time"),
        ('{"cache": {"ssd_bytes": "lots"}}', "expected bytes, as a number or like 50GB"),
        ('{"models": {"m": {"tool_parser": "hermse"}}}', "expected one of deepseek_v3, "),
        ('{"models": {"m": {"alias": " m"}}}', "expected a name"),
        ('{"models": {"m": {"alias": "x"},\n "n": {"alias": "x"}}}', ":2: the alias 'x' is m's already"),
        ('{"x": 1e999}', "1e999 is larger than any number"),
        ('{"x": ' + "[" * 70 + "]" * 70 + "}", "levels deep"),
        ('{"server": {"host": "\\ud800"}}', "no Unicode text"),
        ('{"version": 0}', "version is 0; write 1"),
    ],
)
def test_a_wrong_file_is_refused_with_line_reason_and_remedy(text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        read_values(parse_document(FILE, text))
    assert str(caught.value).startswith(str(FILE))
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_document(tmp_path)
    (tmp_path / "settings.json").write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(SettingsError, match=r"settings.json:2: is not UTF-8"):
        read_document(tmp_path / "settings.json")


def test_unknown_names_are_told_with_the_nearest_known_one():
    text = '{"sevrer": {}, "server": {"prot": 1}, "models": {"m": {"max_tokns": 5, "zzz": 1}}}'
    configuration = layered(parse_document(FILE, text), {"OMLX_PROT": "1", "OMLX_SOMETHING_ELSE": "1"}, {})
    assert [warning.partition(": ")[2] or warning for warning in configuration.warnings] == [
        "sevrer is no setting (did you mean server?); it is kept and not used",
        "server.prot is no setting (did you mean port?); it is kept and not used",
        "models.m.max_tokns is no setting (did you mean max_tokens?); it is kept and not used",
        "models.m.zzz is no setting; it is kept and not used",
        "the variable OMLX_PROT means nothing (did you mean OMLX_PORT?)",
    ]


def test_what_a_newer_version_wrote_is_kept_and_told():
    document = parse_document(FILE, '{"version": 7, "server": {"port": 1}, "warp": {"speed": 9}}')
    configuration = layered(document, {}, {})
    assert configuration.values["server.port"].value == 1
    assert "a newer omlx wrote this file" in configuration.warnings[0]
    assert document.changed(("server", "port"), 2).content["warp"] == {"speed": 9}
    assert document.changed(("server", "port"), 2).content["version"] == 7


@pytest.mark.parametrize(("environ", "words"), [({"OMLX_PORT": "x"}, "the variable OMLX_PORT: server.port is 'x'")])
def test_a_wrong_variable_is_named(environ: dict[str, str], words: str):
    with pytest.raises(SettingsError, match=words):
        layered(parse_document(FILE, "{}"), environ, {})


def test_a_file_is_replaced_at_once_private_and_through_its_link(tmp_path: Path):
    real = tmp_path / "dotfiles" / "settings.json"
    link = tmp_path / "settings.json"
    link.symlink_to(real)
    write_document(parse_document(link, TEXT).changed(("server", "port"), 1))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert read_document(link).content["server"] == {"host": "localhost", "port": 1}
    assert [path.name for path in real.parent.iterdir()] == ["settings.json"]


def test_a_setting_taken_out_leaves_no_empty_sections():
    document = parse_document(FILE, '{"server": {"port": 1}, "models": {"m": {"pin": true}}, "kept": {}}')
    assert document.without(("models", "m", "pin")).content == {"server": {"port": 1}, "kept": {}}
    assert document.without(("server", "host")).content == document.content


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("server.host", "8000", "8000"),
        ("cache.enabled", "1", True),
        ("cache.enabled", "false", False),
        ("cache.ram_bytes", "null", None),
        ("cache.ram_bytes", "1.5 GiB", "1.5 GiB"),
        ("server.model_dirs", "/a:/b", ["/a", "/b"]),
        ("server.model_dirs", '["/a:b"]', ["/a:b"]),
        ("models.a.b.top_p", "0.5", 0.5),
    ],
)
def test_a_text_becomes_what_the_setting_takes(name: str, text: str, value: object):
    assert find_key(name).parse(text) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [("alias", "coder"), ("draft_model", "tiny"), ("tool_parser", "hermes"), ("reasoning_parser", "think")],
)
def test_no_name_ends_with_a_line(key: str, value: str):
    name = find_key(f"models.m.{key}")
    assert name.convert(value) == value
    with pytest.raises(SettingsError):
        name.convert(value + "\n")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=5).map(json.dumps) | st.text())
def test_any_text_is_read_or_refused_with_its_place(text: str):
    try:
        read_values(parse_document(FILE, text))
    except SettingsError as error:
        refusal = str(error)
    else:
        refusal = str(FILE)
    assert str(FILE) in refusal


def test_what_is_not_ours_comes_back_from_the_file_as_it_went_in(tmp_path: Path):
    text = '{"future": {"half a pair": "\\ud800", "größe": [1e300, null, "🙂"]}}'
    document = parse_document(tmp_path / "settings.json", text)
    write_document(document)
    assert read_document(document.path).content == document.content == json.loads(text)


def test_sizes_are_counted_in_their_units():
    sizes = [1000, "12B", "50GB", "1.5GiB", "2 KiB"]
    assert [size_in_bytes(size) for size in sizes] == [1000, 12, 50 * 10**9, 3 << 29, 2048]


def test_every_default_is_valid_and_every_setting_says_what_it_is():
    for key in (*keys(), *model_keys("m")):
        assert key.convert(key.default) == key.default
        assert key.description
    assert len({key.variable for key in keys()}) == len(keys())


def test_the_schema_agrees_with_the_reader():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert VALIDATOR.is_valid(json.loads(TEXT))
    assert VALIDATOR.is_valid({"warp": 1})
    assert not VALIDATOR.is_valid({"server": {"port": 70000}})
    for tools in TOOL_FORMATS:
        assert VALIDATOR.is_valid({"models": {"m": {"tool_parser": tools.name}}})
    for thinking in (*reasoning.ANNOUNCED, reasoning.NONE):
        assert VALIDATOR.is_valid({"models": {"m": {"reasoning_parser": thinking.name}}})
    assert not VALIDATOR.is_valid({"models": {"m": {"tool_parser": "hermse"}}})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 70_000)
    | st.sampled_from([0.5, -0.5, 1.5, 1e6 + 0.5])
    | st.sampled_from(["", "50GB", "1.5 GiB", "lots", " m", "hermes", "think", "none", "a b", "m\n", "50GB\n"])
    | st.lists(st.sampled_from(["", "/a"]), max_size=2)
)


def sections(names: list[str]) -> st.SearchStrategy:
    return SCALARS | st.dictionaries(st.sampled_from(names), SCALARS, max_size=3)


FILES = st.fixed_dictionaries(
    {},
    optional={
        **{name: sections([key.path[1] for key in keys() if key.path[0] == name]) for name in SECTIONS},
        "models": SCALARS | st.fixed_dictionaries({"m": sections([key.path[-1] for key in model_keys("m")])}),
        "version": SCALARS,
        "warp": SCALARS,
    },
)


@settings(max_examples=300, deadline=None)
@given(FILES)
def test_what_the_schema_refuses_the_reader_refuses_and_nothing_else(content: dict):
    try:
        read_values(parse_document(FILE, json.dumps(content)))
    except SettingsError:
        is_read = False
    else:
        is_read = True
    assert VALIDATOR.is_valid(content) is is_read


def test_the_schema_is_published_as_it_is(checkout: Path):
    published = (checkout / "docs" / "settings.schema.json").read_text(encoding="utf-8")
    assert json.loads(published) == json.loads(json.dumps(json_schema())), (
        "run `omlx config schema > docs/settings.schema.json`"
    )


def test_the_page_lists_every_setting(checkout: Path):
    assert (checkout / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()
