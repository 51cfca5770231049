"""Launching and wiring where files cannot be written, or are no files: one clear line, and nothing left over."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.launcher.cli import commands
from omlx.launcher.errors import FileError, StateError
from omlx.launcher.starting import start_server
from omlx.launcher.state import Looker, OmlxHome, read_server_state, remember_model, write_private

from .fake_server import FakeServer
from .full_disk import full_disk

NOBODY = 65_534
Run = Callable[..., Result]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that any user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def omlx(home: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    server.serve_models({"id": "m", "max_model_len": 131_072})
    monkeypatch.chdir(home)
    for name in ("codex", "claude"):
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / name).touch(mode=0o755)

    def run(*arguments: str) -> Result:
        environ = {"HOME": str(home), "PATH": str(home / "bin"), "OMLX_URL": server.url}
        return CliRunner().invoke(commands, arguments, env=environ)

    return run


def left_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if "bin" not in path.parts)


def ends_with_one_line(done: Result, words: str) -> None:
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user who owns nothing, should the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_launch_whose_files_cannot_be_written_whole_leaves_none(omlx: Run, home: Path):
    with full_disk():
        done = omlx("launch", "codex")
    ends_with_one_line(done, "models.json: the system does not allow a file of this size here")
    assert left_in(home) == []


def test_a_launch_in_a_home_that_cannot_be_written_says_so(omlx: Run, home: Path):
    home.chmod(0o555)
    with as_nobody():
        done = omlx("launch", "codex")
    ends_with_one_line(done, "you have no permission; check who owns the file and its folder")
    assert left_in(home) == []


def test_a_server_is_not_started_where_it_could_say_nothing(home: Path):
    home.chmod(0o555)
    with as_nobody(), pytest.raises(FileError, match="you have no permission; check who owns"):
        start_server(OmlxHome(home / ".omlx"), {}, lambda _: None, ("/bin/true",))
    assert left_in(home) == []


def test_what_is_only_remembered_is_no_reason_not_to_start(home: Path):
    with full_disk():
        remember_model(OmlxHome(home / ".omlx"), "claude", "m")
        with pytest.raises(FileError, match="cannot write"):
            write_private(home / "a" / "b", "0123456789abc")
    assert left_in(home) == []


def in_a_circle(path: Path) -> None:
    path.symlink_to(path.name)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(("make", "fact"), [(in_a_circle, "go round in a circle"), (a_pipe, "is not a plain file")])
def test_settings_that_are_no_file_are_told_of_and_hang_nobody(
    omlx: Run, home: Path, make: Callable[[Path], None], fact: str
):
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    make(settings)
    ends_with_one_line(omlx("wire", "claude", "--yes"), fact)
    shown = omlx("launch", "claude", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    (warning,) = (line for line in shown.stdout.splitlines() if fact in line)
    assert warning.startswith("warning  ")
    assert str(settings) in warning
    assert "what it sets is not known" in warning
    assert settings.is_symlink() or settings.is_fifo()


@pytest.mark.parametrize("make", [in_a_circle, a_pipe])
def test_a_state_file_that_is_none_is_told_with_its_remedy(home: Path, make: Callable[[Path], None]):
    state = OmlxHome(home)
    state.server_state.parent.mkdir()
    make(state.server_state)
    with pytest.raises(StateError, match=r"server\.json.*delete that file"):
        read_server_state(state)


def test_what_cannot_be_read_is_told_once(tmp_path: Path):
    looker = Looker()
    a_pipe(tmp_path / "x")
    assert [looker.read(tmp_path / "x"), looker.read(tmp_path / "x"), looker.read(tmp_path / "none")] == [None] * 3
    assert len(looker.warnings) == 1
