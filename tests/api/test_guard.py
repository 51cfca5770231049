"""The guard lets in whom the server is for, and says why it refuses the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from omlx.server.api.guard import Guard
from omlx.server.api.keys import ServerKeys
from omlx.server.api.refusals import Refusals
from omlx.server.errors import Forbidden, Unauthorized, UnsupportedMedia

from .serving import serving

JSON = {"host": "127.0.0.1:8000", "content-type": "application/json"}


async def _app(scope: object, receive: object, send: object) -> None: ...


def guard(api_key: str = "", allowed_host: str = "127.0.0.1") -> Guard:
    return Guard(_app, keys=ServerKeys(api_key), allowed_host=allowed_host, refusals=Refusals())


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "192.168.1.7:80", "app.localhost", "mac.lan:1"]
)
def test_local_names_literal_addresses_and_the_bound_name_are_served(host: str):
    assert guard(allowed_host="mac.lan").check("GET", "/v1/models", {"host": host}) is None


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "x/health?", "", "127.0.0.1.nip.example"])
def test_a_rebound_name_is_refused(host: str):
    assert isinstance(guard().check("GET", "/v1/models", {"host": host}), Forbidden)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://203.0.113.5", "http://evil.localhost.example", "http://[", "http://[x]"],
)
def test_a_foreign_origin_is_refused(origin: str):
    assert isinstance(guard().check("POST", "/v1/messages", {**JSON, "origin": origin}), Forbidden)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost:3000", "http://[::1]:8000"])
def test_a_local_origin_is_let_in(origin: str):
    assert guard().check("POST", "/v1/messages", {**JSON, "origin": origin}) is None


def test_a_page_of_the_server_itself_is_let_in_under_its_lan_address():
    headers = {**JSON, "host": "192.168.1.7:8000", "origin": "http://192.168.1.7:8000"}
    assert guard().check("POST", "/v1/messages", headers) is None


def test_a_cross_site_fetch_is_refused():
    assert isinstance(guard().check("POST", "/v1/messages", {**JSON, "sec-fetch-site": "cross-site"}), Forbidden)


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_form_cannot_post(content_type: str):
    headers = {"host": "localhost", "content-type": content_type}
    assert isinstance(guard().check("POST", "/v1/messages", headers), UnsupportedMedia)


def test_a_charset_after_the_content_type_is_fine():
    headers = {"host": "localhost", "content-type": "Application/JSON; charset=utf-8"}
    assert guard().check("POST", "/v1/messages", headers) is None


@pytest.mark.parametrize(
    "credentials",
    [{"authorization": "Bearer right"}, {"authorization": "bearer right"}, {"x-api-key": "right"}],
)
def test_the_key_opens_in_either_header(credentials: dict[str, str]):
    assert guard("right").check("POST", "/v1/messages", {**JSON, **credentials}) is None


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic right"},
        {"x-api-key": ""},
        {"x-api-key": "right "},
    ],
)
def test_any_other_key_is_refused(credentials: dict[str, str]):
    assert isinstance(guard("right").check("POST", "/v1/messages", {**JSON, **credentials}), Unauthorized)


def test_health_needs_no_key():
    assert guard("right").check("GET", "/health", {"host": "localhost"}) is None


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:5173"])
async def test_no_answer_tells_a_browser_to_share_it_with_other_origins(tmp_path: Path, method: str, origin: str):
    asked = {"origin": origin, "access-control-request-method": "POST", "content-type": "application/json"}
    async with serving(tmp_path, "Hi.") as server:
        for path in ("/v1/models", "/v1/chat/completions", "/health", "/admin/api/models"):
            answer = await server.client.request(method, path, headers=asked)
            assert not [name for name in answer.headers if name.startswith("access-control-")], (path, answer.headers)
