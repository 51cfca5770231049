"""What is refused by its head, or for want of one, is told so as any other error is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omlx.server import http_protocol

from ..api.serving import serving
from ..api.test_server import CHAT, CHAT_BODY
from .test_http_limits import HOST, raw

LAST = b"Connection: close\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n%b\r\n"
SLOW = POST % (b"/v1/messages", b"Content-Length: 9\r\n") + b"{"


def read(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of an answer that is all there is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(body) == int(headers["content-length"])
    return int(status.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "code", "remedy"),
    [
        (b"GET /health HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 70_000, 431, "request_head_too_large", "fewer"),
        (b"X-Endless: " * 500_000, 400, "invalid_request", "http://"),
        (b"GET /" + b"x" * 5_000_000, 431, "request_head_too_large", "shorter URL"),
        (b"GET /hea", 408, "request_timeout", "at once"),
        (POST % (b"/v1/completions", b"Content-Length: 9\r\n") + b"{", 408, "request_timeout", "send it again"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "invalid_request", "http://"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "invalid_request", "http://"),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_request", "http://"),
        (POST % (b"/v1/completions", b"Transfer-Encoding: chunked\r\n") + b"zz\r\n", 400, "invalid_request", "client"),
        (b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_request", "/v1/models"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_request", "/v1/models"),
        (b"GET ftp://localhost/health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "invalid_request", "/v1/models"),
    ],
)
async def test_what_is_refused_before_it_is_a_request_has_the_answer_of_an_error_and_a_line_in_the_log(
    tmp_path: Path,
    sent: bytes,
    status: int,
    code: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.5)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    caplog.set_level("INFO")
    async with serving(tmp_path, "Hi.") as server:
        answer = read(await raw(server, sent))
        assert (await server.client.get("/health")).status_code == 200
    error = answer[2]["error"]
    assert (answer[0], error["code"]) == (status, code)
    assert remedy in error["message"]
    request_id = answer[1]["request-id"]
    assert (
        answer[1] | {"content-type": "application/json", "connection": "close", "x-request-id": request_id} == answer[1]
    )
    assert answer[1]["date"]
    logged = [record for record in caplog.records if request_id in record.getMessage()]
    assert [(record.name, record.levelname) for record in logged] == [("omlx.server.api.refusals", "WARNING")]
    assert "uvicorn" not in caplog.text


async def test_that_nothing_came_at_all_is_not_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.5)
    async with serving(tmp_path, "Hi.") as server:
        assert read(await raw(server))[0] == 408
    assert "Refused" not in caplog.text


async def test_a_body_that_does_not_come_is_refused_in_the_shape_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    async with serving(tmp_path, "Hi.") as server:
        status, headers, body = read(await raw(server, SLOW))
    assert (status, body["type"], body["request_id"]) == (408, "error", headers["request-id"])


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: evil.example\r\n" + HOST,
        HOST + HOST,
        b"Host: a b\r\n",
        b"Host: localhost/x\r\n",
        b"Host: user@localhost\r\n",
        b"Host: [::1\r\n",
        b"Host: localhost:80x\r\n",
        b"Host: localhost, evil.example:1\r\n",
        b"Host: l\xf6calhost\r\n",
    ],
)
async def test_a_request_without_one_valid_host_is_400(tmp_path: Path, hosts: bytes):
    async with serving(tmp_path, "Hi.") as server:
        status, headers, body = read(await raw(server, b"GET /v1/models HTTP/1.1\r\n" + hosts + LAST))
    assert status == 400
    assert "Host" in body["error"]["message"]
    assert headers["request-id"]


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://evil.example/v1/models", HOST, 403),
        (b"http://evil.example:80?x", HOST, 403),
        (b"http://localhost@evil.example/v1/models", HOST, 400),
        (b"http:///v1/models", HOST, 403),
        (b"HTTP://LOCALHOST:1/v1/models?limit=1", b"Host: evil.example\r\n", 200),
        (b"http://[::1]:1/v1/models", HOST, 200),
        (b"https://localhost/v1/models", HOST, 200),
        (b"http://localhost", HOST, 404),
        (b"http://localhost/v1/models", b"", 400),
        (b"http://localhost/v1/models", HOST + HOST, 400),
        (b"//evil.example/v1/models", HOST, 404),
    ],
)
async def test_the_host_of_a_target_in_absolute_form_goes_before_the_header(
    tmp_path: Path, target: bytes, host: bytes, status: int
):
    async with serving(tmp_path, "Hi.") as server:
        answer = read(await raw(server, b"GET %b HTTP/1.1\r\n%b" % (target, host) + LAST))
    assert answer[0] == status


async def test_a_client_of_http_1_0_needs_no_host_to_be_told_what_it_lacks(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        assert read(await raw(server, b"GET /health HTTP/1.0\r\n\r\n"))[0] == 403
        assert read(await raw(server, b"GET /health HTTP/1.0\r\n" + HOST + b"\r\n"))[0] == 200


async def test_an_upgrade_is_declined_and_what_follows_it_is_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    asks = b"GET /health HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" + HOST + b"\r\n"
    async with serving(tmp_path, "Hi.") as server:
        answers = await raw(server, asks + b"GET /ready HTTP/1.1\r\n" + HOST + LAST)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert "uvicorn" not in caplog.text


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_the_body_of_a_declined_upgrade_is_the_requests(tmp_path: Path, in_chunks: bool, in_pieces: bool):
    """Java's HttpClient asks for h2c with every first request. Its body is no other request."""
    body = json.dumps(CHAT_BODY).encode()
    framing = b"Transfer-Encoding: chunked\r\n" if in_chunks else b"Content-Length: %d\r\n" % len(body)
    head = POST % (CHAT.encode(), b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + framing)
    sent = head + (b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:]) if in_chunks else body)
    sent += b"GET /ready HTTP/1.1\r\n" + HOST + LAST
    pieces = [sent[at : at + 1] for at in range(len(sent))] if in_pieces else [sent]
    async with serving(tmp_path, "Hi.") as server:
        answers = await raw(server, *pieces)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200") == 2
    assert b'"content":"Hi."' in answers
