"""omlx's home is for its owner alone, and where it is not, that is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omlx.server.fast_deaths import FastDeaths
from omlx.server.models.placing import make_models_folder
from omlx.server.private_folder import exposed
from omlx.server.settings.document import locked
from omlx.server.state_file import sole_server


@pytest.fixture(autouse=True)
def _common_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def hold(path: Path) -> None:
    with sole_server(path):
        pass


def lock(path: Path) -> None:
    with locked(path):
        pass


MAKERS: dict[str, Callable[[Path], object]] = {
    "the server's place": lambda home: hold(home / "run" / "server.json"),
    "a service's starts": lambda home: FastDeaths(home / "run" / "starts.json", lambda: 0.0).began(),
    "settings": lambda home: lock(home / "settings.json"),
    "models": lambda home: make_models_folder(home / "models"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_makes_the_home_makes_it_private(tmp_path: Path, name: str):
    home = tmp_path / "above" / "omlx"
    MAKERS[name](home)
    folders = [folder for folder in tmp_path.rglob("*") if folder.is_dir()]
    assert home in folders
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_a_home_that_is_there_keeps_its_mode(tmp_path: Path):
    tmp_path.chmod(0o755)
    hold(tmp_path / "run" / "server.json")
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_others_can_read_or_write_is_told_with_the_command_against_it(tmp_path: Path):
    home = tmp_path / "my home"
    keys = home / "keys"
    keys.mkdir(parents=True)
    for file in (home / "keys.json", keys / "keys.json", home / "settings.json"):
        file.write_text("{}")
        file.chmod(0o600)
    assert list(exposed(home)) == []
    for path, mode in ((home, 0o777), (keys, 0o755), (home / "keys.json", 0o666), (keys / "keys.json", 0o640)):
        path.chmod(mode)
    (home / "settings.json").chmod(0o644)
    assert list(exposed(home)) == [
        f"{home} has mode 0777: others can write it; close it with `chmod 700 '{home}'`",
        f"{home}/keys.json has mode 0666: others can read and write it; close it with `chmod 600 '{home}/keys.json'`",
        f"{keys}/keys.json has mode 0640: others can read it; close it with `chmod 600 '{keys}/keys.json'`",
    ]
