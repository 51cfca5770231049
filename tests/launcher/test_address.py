"""Where the server is."""

from __future__ import annotations

import pytest

from omlx.launcher.address import DEFAULT_URL, ServerAddress, is_loopback, normalised, resolve
from omlx.launcher.errors import LauncherError
from omlx.launcher.state import ServerState


def running_server() -> ServerState:
    return ServerState(pid=1, host="0.0.0.0", port=8010, url="http://127.0.0.1:8010", instance_id="a")


def test_the_flag_comes_before_the_variable():
    address = resolve("http://a:1", {"OMLX_URL": "http://b:2"}, running_server)
    assert address == ServerAddress("http://a:1", "--url", is_chosen=True)


def test_the_variable_comes_before_the_running_server():
    address = resolve(None, {"OMLX_URL": "http://b:2"}, running_server)
    assert address == ServerAddress("http://b:2", "OMLX_URL", is_chosen=True)


def test_the_running_server_comes_before_the_default():
    assert resolve(None, {}, running_server) == ServerAddress("http://127.0.0.1:8010", "the running server", False)


def test_the_default_is_what_is_left():
    assert resolve(None, {"OMLX_URL": ""}, lambda: None) == ServerAddress(DEFAULT_URL, "the default", False)


@pytest.mark.parametrize(
    ("environ", "settings", "url", "source"),
    [
        ({}, '{"server": {"port": 8002}}', "http://127.0.0.1:8002", "the settings"),
        ({"OMLX_PORT": "8003"}, '{"server": {"port": 8002}}', "http://127.0.0.1:8003", "the settings"),
        ({"OMLX_HOST": "0.0.0.0"}, None, DEFAULT_URL, "the settings"),
        ({}, '{"server": {"host": "::1", "port": 8002}}', "http://[::1]:8002", "the settings"),
        ({}, '{"server": {"port": true}}', DEFAULT_URL, "the default"),
        ({"OMLX_PORT": "x"}, '{"server": []}', DEFAULT_URL, "the default"),
        ({}, '{"server": {"port": 70000}}', DEFAULT_URL, "the default"),
        ({}, "{", DEFAULT_URL, "the default"),
    ],
)
def test_without_a_server_the_address_is_where_one_would_listen(
    environ: dict[str, str], settings: str | None, url: str, source: str
):
    assert resolve(None, environ, lambda: None, lambda: settings) == ServerAddress(url, source, is_chosen=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        (" localhost:9000 ", "http://localhost:9000"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
        ("http://[fe80::1]:8000/v1", "http://[fe80::1]:8000"),
        ("https://box.lan/omlx/v1", "https://box.lan/omlx"),
    ],
)
def test_addresses_are_brought_to_one_form(given: str, url: str):
    assert normalised(given, "--url") == url


@pytest.mark.parametrize(
    "given", ["ftp://a", "http://", "http://a:port", "http://a:99999", "http://[::1", "http://me:pw@a"]
)
def test_what_is_no_http_address_is_refused_with_its_source(given: str):
    with pytest.raises(LauncherError, match="OMLX_URL") as refusal:
        normalised(given, "OMLX_URL")
    assert "pw" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://127.0.0.1:1", True), ("http://[::1]:1", True), ("http://localhost", True), ("http://box.lan", False)],
)
def test_loopback_is_told_from_other_machines(url: str, expected: bool):
    assert is_loopback(url) is expected
