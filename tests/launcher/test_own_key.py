"""A key that no header can carry is refused by the server and by each of its clients, in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from omlx.launcher.errors import SecretsError
from omlx.launcher.own_key import own_key
from omlx.server.errors import SettingsError
from omlx.server.settings.own_key import own_key as servers_key

from .conftest import Omlx
from .fake_server import FakeServer

FAULTS = {
    " ": "is blank",
    "\n": "is blank",
    " sk-secret": "begins or ends with a space",
    "sk-secret ": "begins or ends with a space",
    "sk-secret \n": "begins or ends with a space",
    "sk-\x01secret": "holds control characters",
    "sk-secret\t": "holds control characters",
    "sk-secret\n\n": "holds control characters",
    "sk-secret\x7f": "holds control characters",
    "sk-sécret": "holds characters that are not ASCII",
    "sk-secret\N{NO-BREAK SPACE}": "holds characters that are not ASCII",
    "sk-\udcffsecret": "holds characters that are not ASCII",
}
COMMANDS = ("status", "ps", "probe", "bench", "chat Hi", "wire pi --dry-run", "launch pi --dry-run", "launch pi")


@pytest.mark.parametrize("given", FAULTS)
def test_what_cannot_be_sent_is_refused_with_the_remedy_and_not_quoted(given: str):
    for error, read in ((SecretsError, own_key), (SettingsError, servers_key)):
        with pytest.raises(error, match=f"^OMLX_API_KEY {FAULTS[given]}, so .*; set it to .*unset it") as refused:
            read({"OMLX_API_KEY": given})
        assert not re.search(r"sk-|s.cret", str(refused.value))


@pytest.mark.parametrize("given", ["sk-a", "sk-a\n", "sk-a\r\n", "sk-a\r"])
def test_the_end_of_a_line_is_no_part_of_a_key(given: str):
    assert own_key({"OMLX_API_KEY": given}) == servers_key({"OMLX_API_KEY": given}) == "sk-a"


@pytest.mark.parametrize("key", ["!", "a b", "~" * 200])
def test_what_a_header_carries_is_taken_as_it_is(key: str):
    assert own_key({"OMLX_API_KEY": key}) == servers_key({"OMLX_API_KEY": key}) == key


def test_an_empty_variable_is_one_that_is_not_set():
    assert own_key({"OMLX_API_KEY": ""}) is own_key({}) is None
    assert servers_key({"OMLX_API_KEY": ""}) == servers_key({}) == ""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", ["sk-sécret", "sk-secret ", "sk-secret\t"])
def test_each_command_that_speaks_to_a_server_refuses_in_a_line_and_asks_nothing(
    omlx: Omlx, server: FakeServer, fake_agent: Callable[[str], Path], command: str, given: str
):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    path = str(fake_agent("pi").parent)
    ended = omlx(*command.split(), OMLX_API_KEY=given, OMLX_URL=server.url, PATH=path)
    assert (ended.exit_code, ended.stderr.count("\n")) == (1, 1), ended.output
    assert ended.stderr.startswith(f"omlx: OMLX_API_KEY {FAULTS[given]}, so ")
    assert "cret" not in ended.output
    assert [asked for asked in server.requests if "authorization" in asked.headers] == []


def test_a_server_is_not_started_for_a_key_that_it_would_refuse(
    omlx: Omlx, home: Path, fake_agent: Callable[[str], Path]
):
    ended = omlx("launch", "pi", OMLX_API_KEY="sk-sécret", PATH=str(fake_agent("pi").parent))
    assert (ended.exit_code, ended.stderr.count("\n")) == (1, 1), ended.output
    assert not (home / "logs").exists()


def test_a_key_with_the_end_of_its_line_is_sent_without(omlx: Omlx, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    assert omlx("status", OMLX_API_KEY="sk-a\n", OMLX_URL=server.url).exit_code == 0
    assert server.requests[-1].headers["authorization"] == "Bearer sk-a"


def test_the_doctor_finds_it_and_blames_neither_the_server_nor_its_address(omlx: Omlx, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    said = omlx("doctor", OMLX_API_KEY="sk-sécret", OMLX_URL=server.url).stdout
    assert said.count("OMLX_API_KEY holds characters that are not ASCII") == 2
    assert "omlx stop" not in said
    assert "cret" not in said
