from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from omlx.launcher import files, records
from omlx.launcher.documents import Delete, Set, Where
from omlx.launcher.errors import EditError, FileError, ForeignEdit, StateError
from omlx.launcher.journal import FileEdit, WholeFile, apply, preview, wired
from omlx.launcher.restore import plan_restore, restore, summary
from omlx.launcher.review import diff
from tests.torture.undo import torture

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
CONFIG = b'\xef\xbb\xbf# mine\r\nmodel: "gpt"  # old\r\napi_key: my-own-secret\r\ncustom_providers:\r\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "omlx"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(CONFIG)
    path.chmod(0o640)
    return path


def edit_of(config: Path, model: str = "ours") -> FileEdit:
    item = {"base_url": "http://127.0.0.1:8000/v1", "models": {model: {"context_length": 65536}}}
    return FileEdit(
        config,
        "yaml",
        (Set(("model",), model), Set(("custom_providers", Where("name", "omlx")), item), Delete(("api_key",))),
    )


def test_what_is_applied_is_what_the_preview_showed(home, config):
    shown = preview(home, "hermes", [edit_of(config)])
    assert config.read_bytes() == CONFIG
    done = apply(home, "hermes", [edit_of(config)], NOW)
    assert [(change.path, change.before, change.after) for change in done] == [
        (change.path, change.before, change.after) for change in shown
    ]
    assert config.read_bytes() == shown[0].after
    assert "my-own-secret" not in diff(shown) + repr(shown) + repr(edit_of(config))


def test_the_backup_and_the_journal_are_private(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_dir()} == {0o700}
    assert CONFIG in [path.read_bytes() for path in kept]


def test_a_second_run_changes_nothing_and_makes_no_backup(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    before = {path: path.stat().st_mtime_ns for path in [config, *home.rglob("*")] if path.is_file()}
    assert preview(home, "hermes", [edit_of(config)]) == ()
    assert apply(home, "hermes", [edit_of(config)], NOW) == ()
    assert {path: path.stat().st_mtime_ns for path in [config, *home.rglob("*")] if path.is_file()} == before


def test_what_is_wired_is_listed_with_its_date(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    (item,) = wired(home)
    assert (item.agent, item.path, item.since) == ("hermes", config, NOW)
    assert item.values == (
        "model",
        "api_key",
        "custom_providers[name=omlx].base_url",
        "custom_providers[name=omlx].models.ours.context_length",
    )


def test_an_untouched_file_gets_its_exact_bytes_and_mode_back(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    apply(home, "hermes", [edit_of(config, "newer")], NOW + timedelta(hours=1))
    (plan,) = plan_restore(home, "hermes")
    assert (plan.after, plan.kept) == (CONFIG, ())
    assert restore(home, "hermes")[0].after == CONFIG
    assert config.read_bytes() == CONFIG
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert (wired(home), restore(home, "hermes")) == ((), ())


def test_in_a_file_changed_since_only_values_still_ours_go_back(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    config.write_bytes(config.read_bytes().replace(b"model: ", b"mine: 1\r\nmodel: ").replace(b"65536", b"70000"))
    (plan,) = plan_restore(home, "hermes")
    assert summary([plan]) == (
        f"{config}: kept custom_providers[name=omlx].models.ours.context_length: it was changed since",
    )
    restore(home, "hermes")
    text = config.read_bytes()
    assert text == plan.after
    assert text.startswith(b'\xef\xbb\xbf# mine\r\nmine: 1\r\nmodel: "gpt"  # old\r\n')
    assert yaml.safe_load(text.decode("utf-8-sig")) == {
        "mine": 1,
        "model": "gpt",
        "api_key": "my-own-secret",
        "custom_providers": [{"name": "omlx", "models": {"ours": {"context_length": 70000}}}],
    }


def test_null_parents_and_list_items_made_for_us_go_with_our_last_value(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    config.write_bytes(config.read_bytes() + b"mine: 1\r\n")
    restore(home, "hermes")
    assert config.read_bytes() == (
        b'\xef\xbb\xbf# mine\r\nmodel: "gpt"  # old\r\ncustom_providers: null\r\nmine: 1\r\napi_key: my-own-secret\r\n'
    )


def test_a_second_wiring_after_a_change_of_the_users_never_brings_back_the_file_before_it(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    config.write_bytes(config.read_bytes() + b"mine: 1\r\n")
    apply(home, "hermes", [edit_of(config, "newer")], NOW)
    restore(home, "hermes")
    text = config.read_text("utf-8-sig")
    assert yaml.safe_load(text) == {**yaml.safe_load(CONFIG.decode("utf-8-sig")), "mine": 1}


def test_a_list_made_for_our_item_goes_with_it_and_other_items_stay(tmp_path, home):
    path = tmp_path / "a.json"
    path.write_text('{"other": [{"name": "x"}]}')
    changes = (Set(("new", Where("name", "omlx"), "n"), 1), Set(("other", Where("name", "omlx"), "n"), 1))
    apply(home, "a", [FileEdit(path, "json", changes)], NOW)
    path.write_text(path.read_text().replace('"x"}', '"x"}, {"name": "y"}'))
    restore(home, "a")
    assert path.read_text() == '{"other": [{"name": "x"}, {"name": "y"}]}'


def test_a_file_and_folders_that_we_made_are_removed(tmp_path, home):
    path = tmp_path / ".config" / "opencode" / "opencode.jsonc"
    own = tmp_path / ".config" / "opencode" / "omlx.ts"
    edits = [FileEdit(path, "jsonc", (Set(("provider", "omlx"), {"x": 1}),)), WholeFile(own, "export {}\n")]
    apply(home, "opencode", edits, NOW)
    assert own.read_text() == "export {}\n"
    assert [plan.after for plan in plan_restore(home, "opencode")] == [None, None]
    restore(home, "opencode")
    assert not (tmp_path / ".config").exists()


def test_a_file_that_we_made_and_the_user_added_to_keeps_what_is_the_users(tmp_path, home):
    path = tmp_path / "new.json"
    apply(home, "a", [FileEdit(path, "json", (Set(("provider", "omlx", "x"), 1),))], NOW)
    path.write_text(path.read_text().replace('"x": 1', '"x": 1, "y": 2'))
    restore(home, "a")
    assert path.read_text() == '{\n  "provider": {\n    "omlx": {\n      "y": 2\n    }\n  }\n}\n'
    apply(home, "a", [FileEdit(tmp_path / "b.json", "json", (Set(("x",), 1),))], NOW)
    (tmp_path / "b.json").write_text('{ "x": 1 }')
    restore(home, "a")
    assert not (tmp_path / "b.json").exists()


def test_a_whole_file_of_ours_never_replaces_a_foreign_one(tmp_path, home):
    path = tmp_path / "omlx.ts"
    path.write_text("the user's")
    with pytest.raises(FileError, match="is there already and is not ours"):
        preview(home, "pi", [WholeFile(path, "ours")])
    path.unlink()
    apply(home, "pi", [WholeFile(path, "ours")], NOW)
    apply(home, "pi", [WholeFile(path, "ours, newer")], NOW)
    path.write_text("changed by the user")
    (plan,) = restore(home, "pi")
    assert plan.kept == ("the whole file: it was changed since",)
    assert path.read_text() == "changed by the user"


def test_a_file_that_the_user_removed_stays_away(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    config.unlink()
    assert restore(home, "hermes")[0].after is None
    assert not config.exists()


@pytest.mark.parametrize("run", [lambda h, e: preview(h, "x", e), lambda h, e: apply(h, "x", e, NOW)])
def test_a_file_that_does_not_parse_is_refused_with_its_line_and_stays(tmp_path, home, run):
    path = tmp_path / "opencode.jsonc"
    path.write_text('{\n  "a": 1\n  "b": 2\n}\n')
    with pytest.raises(EditError, match=r"opencode\.jsonc, line 3, column 3: expected ',' .*; nothing was written"):
        run(home, [FileEdit(path, "jsonc", (Set(("a",), 2),))])
    assert path.read_text() == '{\n  "a": 1\n  "b": 2\n}\n'
    assert wired(home) == ()


def test_a_file_broken_since_is_not_undone_and_its_backup_is_named(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    config.write_text("a: [\n")
    words = r"cannot be undone value by value.*correct that and run it again; what stood there before is in .*backups"
    with pytest.raises(EditError, match=words):
        restore(home, "hermes")
    assert config.read_text() == "a: [\n"
    assert len(wired(home)) == 1


def test_when_the_second_file_fails_the_first_is_put_back(tmp_path, home, config):
    broken = tmp_path / "new" / "broken.json"
    broken.parent.mkdir()
    broken.write_text("{")
    made = tmp_path / "made" / "x.json"
    edits = [edit_of(config), FileEdit(made, "json", (Set(("a",), 1),)), FileEdit(broken, "json", (Set(("a",), 1),))]
    with pytest.raises(EditError, match=r"broken\.json"):
        apply(home, "hermes", edits, NOW)
    assert config.read_bytes() == CONFIG
    assert not made.parent.exists()
    assert wired(home) == ()


def test_a_foreign_change_in_the_last_moment_is_kept(home, config, monkeypatch):
    rename, changes = os.rename, []

    def theirs_first(old: Path, new: Path) -> None:
        rename(old, new)
        if ".json" in str(new) and not changes:  # our journal is written: the user saves the file right now
            changes.append(config.write_bytes(CONFIG + b"theirs: 1\r\n"))

    monkeypatch.setattr(os, "rename", theirs_first)
    apply(home, "hermes", [edit_of(config)], NOW)
    assert changes
    assert yaml.safe_load(config.read_text("utf-8-sig"))["theirs"] == 1
    restore(home, "hermes")
    assert config.read_bytes() == CONFIG + b"theirs: 1\r\n"


def test_a_file_that_is_always_written_by_others_is_given_up(home, config, monkeypatch):
    rename = os.rename

    def always(old: Path, new: Path) -> None:
        rename(old, new)
        if ".json" in str(new):
            config.write_bytes(config.read_bytes() + b"# x\r\n")

    monkeypatch.setattr(os, "rename", always)
    with pytest.raises(ForeignEdit):
        apply(home, "hermes", [edit_of(config)], NOW)
    assert config.read_bytes().startswith(CONFIG + b"# x\r\n")
    assert wired(home) == ()


def test_a_crash_between_journal_and_file_leaves_nothing_to_undo(home, config, monkeypatch):
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    replace = files.replace
    monkeypatch.setattr(files, "replace", lambda p, d, expected: crash() if p == config else replace(p, d, expected))
    with pytest.raises(KeyboardInterrupt):
        apply(home, "hermes", [edit_of(config)], NOW)
    monkeypatch.undo()
    assert config.read_bytes() == CONFIG
    assert [(plan.after, plan.kept) for plan in restore(home, "hermes")] == [(CONFIG, ())]


def test_the_newest_ten_backups_and_the_one_that_undo_needs_are_kept(home, config):
    for number in range(14):
        apply(home, "hermes", [edit_of(config, f"m{number}")], NOW + timedelta(seconds=number))
    backups = [path for path in (home / "backups").rglob("*") if path.is_file()]
    assert len(backups) == 11
    restore(home, "hermes")
    assert config.read_bytes() == CONFIG


def test_a_backup_that_is_gone_is_an_error_and_the_file_stays(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    for path in (home / "backups").rglob("*-*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(EditError, match=r"its backup .* is gone"):
        plan_restore(home, "hermes")


def test_a_damaged_journal_is_told_and_nothing_is_touched(home, config):
    apply(home, "hermes", [edit_of(config)], NOW)
    wired_text = config.read_bytes()
    records.journal_file(home, "hermes").write_text('{"version": 1, "files": [{}]}')
    with pytest.raises(StateError, match="is damaged"):
        restore(home, "hermes")
    records.journal_file(home, "hermes").write_text('{"version": 2}')
    with pytest.raises(StateError, match="another version"):
        restore(home, "hermes")
    assert config.read_bytes() == wired_text


@pytest.mark.parametrize(("dialect", "rounds"), [("json", 10), ("jsonc", 10), ("json5", 10), ("yaml", 4), ("toml", 10)])
def test_random_wirings_are_undone(dialect, rounds):
    assert +torture(dialect, rounds, seed=2) == {"rounds": rounds}
