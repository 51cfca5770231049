from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from omlx.integrations.spec import Model, Surroundings, Target
from omlx.launcher.cli import commands
from omlx.launcher.machine import Machine

from .fake_server import FakeServer, running

Omlx = Callable[..., Result]
NO_KEYCHAIN = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running() as fake:
        yield fake


@pytest.fixture
def model() -> Model:
    return Model("qwen", 131_072, 16_384)


@pytest.fixture
def target(model: Model) -> Target:
    return Target("http://127.0.0.1:8000", model, model, model, model, (model,), api_key="secret-key-of-this-launch")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with an empty home and an empty PATH but for `bin`."""
    home = tmp_path / "home"
    home.mkdir()
    return Machine({"PATH": str(tmp_path / "bin")}, home, home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".omlx"


@pytest.fixture
def omlx(home: Path) -> Omlx:
    """Runs `omlx` in this process, without a keychain."""

    def run(*arguments: str, **variables: str) -> Result:
        environ = {"HOME": str(home.parent), "OMLX_API_KEY": "", "OMLX_URL": "", **NO_KEYCHAIN, **variables}
        return CliRunner().invoke(commands, arguments, env=environ)

    return run


@pytest.fixture
def surroundings(machine: Machine) -> Surroundings:
    return Surroundings(
        machine.environ, machine.user_home, machine.directory, Path("/run"), (), lambda _: None, lambda *_: ()
    )


@pytest.fixture
def fake_agent(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a program on the machine's PATH that prints its arguments and its environment, and ends with code 7."""

    def install(name: str) -> Path:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            '#!/bin/sh\nfor argument in "$@"; do echo "argument $argument"; done\n/usr/bin/env\nexit 7\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return install
