"""One file with the wirings of several agents in it: whichever is undone first, the user's file is there at the end."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.launcher.cli import commands
from omlx.launcher.documents import Change, Dialect, Set, read
from omlx.launcher.journal import FileEdit, apply, wired
from omlx.launcher.restore import plan_restore, restore

from .fake_server import FakeServer

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
TOML = "# mine\nd = 1979-05-27\nmodel = 'x'  # mine too\n\n[keep]\nthis = \"so\"\n"
SAME: tuple[Change, ...] = (Set(("provider",), "omlx"), Set(("d",), "ours"), Set(("providers", "omlx", "a"), 1))
"""What each of the agents sets, alike."""

CODEX = '# mine\nmodel = "gpt-5"\nmodel_provider = "corp"\n\n[model_providers.corp]\nbase_url = "https://x"  # ours\n'

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "omlx"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(TOML)
    return path


def wire(home: Path, path: Path, agent: str, minute: int, model: str | None = None, dialect: Dialect = "toml") -> None:
    own = (Set(("model",), model or agent), Set(("providers", agent), {"b": 1}))
    apply(home, agent, [FileEdit(path, dialect, (*SAME, *own))], NOW + timedelta(minutes=minute))


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two", "three"])))
def test_wirings_of_the_same_keys_are_undone_in_any_order(home: Path, path: Path, order: tuple[str, ...]):
    for minute, agent in enumerate(("one", "two", "three")):
        wire(home, path, agent, minute)
    left = ["one", "two", "three"]
    for agent in order:
        planned = plan_restore(home, agent)[0].after
        assert restore(home, agent)[0].kept == ()
        assert path.read_bytes() == planned
        left.remove(agent)
        config = tomllib.loads(path.read_text())
        assert config["model"] == (left[-1] if left else "x")
        assert config.get("provider") == ("omlx" if left else None)
        assert set(config.get("providers", {})) == ({"omlx", *left} if left else set())
    assert tomllib.loads(path.read_text()) == tomllib.loads(TOML), "and no table of ours is left"
    assert wired(home) == ()


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two"])))
def test_of_two_wirings_the_bytes_of_the_user_come_back(home: Path, path: Path, order: tuple[str, ...]):
    wire(home, path, "one", 0)
    wire(home, path, "two", 1)
    for agent in order:
        restore(home, agent)
    assert path.read_text() == TOML


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two"])))
def test_two_wirings_of_a_new_file_leave_none(home: Path, tmp_path: Path, order: tuple[str, ...]):
    path = tmp_path / "new" / "config.toml"
    wire(home, path, "one", 0)
    wire(home, path, "two", 1)
    for agent in order:
        restore(home, agent)
    assert not path.parent.exists()


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two"])))
def test_the_older_one_wired_anew_over_the_younger(home: Path, path: Path, order: tuple[str, ...]):
    wire(home, path, "one", 0, "big")
    wire(home, path, "two", 1, "small")
    wire(home, path, "one", 2, "bigger")
    assert restore(home, order[0])[0].kept == ()
    assert tomllib.loads(path.read_text())["model"] == {"one": "small", "two": "bigger"}[order[0]]
    restore(home, order[1])
    assert tomllib.loads(path.read_text()) == tomllib.loads(TOML)


@pytest.mark.parametrize("order", list(itertools.permutations(["one", "two"])))
@pytest.mark.parametrize(
    ("dialect", "text"),
    [("jsonc", '{\n  // mine\n  "model": "x"\n}\n'), ("yaml", "# mine\nmodel: x  # mine too\n")],
)
def test_what_the_user_changed_meanwhile_stays(
    home: Path, tmp_path: Path, dialect: Dialect, text: str, order: tuple[str, ...]
):
    path = tmp_path / f"config.{dialect}"
    path.write_text(text)
    wire(home, path, "one", 0, dialect=dialect)
    wire(home, path, "two", 1, dialect=dialect)
    mine = '  "added": 1,\n  // mine' if dialect == "jsonc" else "added: 1\n# mine"
    path.write_text(path.read_text().replace("  // mine" if dialect == "jsonc" else "# mine", mine, 1))
    for agent in order:
        restore(home, agent)
    assert read(dialect, path.read_text()) == {"added": 1, "model": "x"}


def test_a_model_that_was_the_users_own_before_is_not_taken_for_the_others(home: Path, path: Path):
    path.write_text('model = "big"\n')
    wire(home, path, "one", 0, "small")
    wire(home, path, "two", 1, "big")
    restore(home, "two")
    assert tomllib.loads(path.read_text())["model"] == "small"
    restore(home, "one")
    assert path.read_text() == 'model = "big"\n'


@pytest.fixture
def omlx(tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    server.serve_models({"id": "big", "max_model_len": 131_072}, {"id": "small", "max_model_len": 65_536})
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(commands, arguments, env={"HOME": str(tmp_path), "OMLX_URL": server.url})
        assert done.exit_code == 0, done.stderr
        return done

    return run


@pytest.mark.parametrize("order", list(itertools.permutations(["codex", "codex_app"])))
def test_codex_and_its_desktop_app_are_undone_in_any_order(omlx: Run, tmp_path: Path, order: tuple[str, ...]):
    path = tmp_path / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(CODEX)
    omlx("wire", "codex", "--model", "big", "--yes")
    omlx("wire", "codex_app", "--model", "small", "--yes")
    omlx("restore", order[0], "--yes")
    config = tomllib.loads(path.read_text())
    assert (config["model_provider"], config["model"]) == ("omlx", {"codex": "big", "codex_app": "small"}[order[1]])
    assert Path(config["model_catalog_json"]).is_file()
    assert set(config["model_providers"]) == {"corp", "omlx"}
    omlx("restore", order[1], "--yes")
    assert path.read_text() == CODEX
    assert list((tmp_path / ".omlx" / "wired").rglob("*.json")) == []


def test_a_catalog_that_the_users_file_still_names_is_not_removed(omlx: Run, tmp_path: Path):
    path = tmp_path / ".codex" / "config.toml"
    omlx("wire", "codex", "--model", "big", "--yes")
    catalog = tomllib.loads(path.read_text())["model_catalog_json"]
    path.write_text(path.read_text() + f'\n[profiles.mine]\nmodel_catalog_json = "{catalog}"\n')
    done = omlx("restore", "codex", "--yes")
    assert f"{catalog}: kept the whole file: {path} names it" in done.stderr
    assert tomllib.loads(path.read_text()) == {"profiles": {"mine": {"model_catalog_json": catalog}}}
    assert Path(catalog).is_file()
