"""What holds for every test: no real home, no key of the user's, and no address but this machine's own."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_USERS_OWN = ("ANTHROPIC_", "OPENAI_", "OMLX_", "CLAUDE_", "PI_", "CODEX_")


@pytest.fixture(scope="session", autouse=True)
def _throw_away_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in [name for name in os.environ if name.startswith(_USERS_OWN) or name.startswith("XDG_")]:
            patch.delenv(name)
        yield


def _refuse_other_machines(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: a connection to anything but loopback is an error in the test that made it."""
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not _is_this_machine(str(address[0])):
        raise PermissionError(f"a test tried to reach {address[0]}; tests talk to this machine only")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pytest_configure() -> None:
    sys.addaudithook(_refuse_other_machines)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's folder, imported once a session."""
    from .e2e.embedded import EmbeddedModelMissing, import_embedded_model

    try:
        return import_embedded_model()
    except EmbeddedModelMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top folder of this checkout."""
    return Path(__file__).parents[1]
