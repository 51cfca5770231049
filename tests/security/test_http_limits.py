"""What a client may send before it is anybody: bounded heads, bodies, and times."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from omlx.server import http_protocol

from ..api.admin.admin_serving import ADMIN_KEY, write_keys
from ..api.serving import Serving, serving
from ..api.test_server import CHAT, CHAT_BODY

HOST = b"Host: localhost\r\n"


async def raw(server: Serving, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Everything the server says to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.client.base_url.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * 70_000,
        b"".join(b"X-%d: y\r\n" % number for number in range(20_000)),
        b"X-Endless: " + b"x" * 5_000_000,
    ],
)
async def test_a_head_over_64_kib_is_431(tmp_path: Path, head: bytes):
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, b"GET /health HTTP/1.1\r\n" + HOST + head + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")
        assert (await server.client.get("/health")).status_code == 200


async def test_a_url_over_64_kib_is_431(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, b"GET /" + b"x" * 66_000)
    assert answer.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX-Endless: " + b"x" * 5_000_000, b"0\r\n" + b"X-Some: y\r\n" * 50_000, b"1;extension=" + b"x" * 5_000_000],
)
async def test_what_comes_between_and_behind_the_chunks_is_bounded_as_a_head_is(tmp_path: Path, endless: bytes):
    head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    async with serving(tmp_path, "Hi.", api_key="secret") as server:
        answer = await raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + endless)
        assert (await server.client.get("/health")).status_code == 200
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 431")) or answer == b""  # reset by what was on its way
    assert answer.count(b"HTTP/1.1 ") < 2


async def test_trailers_are_no_headers_of_this_request_nor_of_the_next(tmp_path: Path):
    body = json.dumps(CHAT_BODY).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nContent-Type: application/json\r\n".encode() + HOST
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body)
    keyless = head + chunks + b"Authorization: Bearer secret\r\n\r\n"
    last = head + b"Connection: close\r\n" + chunks + b"\r\n"
    async with serving(tmp_path, "Hi.", api_key="secret") as server:
        answers = await raw(server, keyless + last)
        allowed = await raw(server, head + b"Authorization: Bearer secret\r\n" + chunks + b"X-Sum: 1\r\n\r\n" + last)
    assert answers.count(b"HTTP/1.1 401") == 2
    assert (allowed.count(b"HTTP/1.1 200"), allowed.count(b"HTTP/1.1 401")) == (1, 1)


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"GET /health HTTP/1.1\r\n" + HOST],
        [b"G", b"E", b"T", b" "],
        [b"\r\n", b"\r\n", b"\r\n"],
        [b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"],
    ],
)
async def test_a_half_open_connection_is_closed(
    tmp_path: Path, pieces: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.5)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, *pieces, pause=0.02)
    assert answer.startswith(b"HTTP/1.1 408")
    assert "failed" not in caplog.text


async def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, head, *[b"{"] * 60, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_body_that_came_fast_may_not_stall_for_what_that_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    head = (
        b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 9999999\r\n\r\n"
    )
    async with serving(tmp_path, "Hi.") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.client.base_url.port)
        writer.write(head + b" " * 2_000_000)  # eight minutes' worth
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not reading.done():
                writer.write(b" ")
                await asyncio.sleep(0.1)
        writer.close()
    assert reading.result().startswith(b"HTTP/1.1 408")


async def test_a_body_may_not_come_slowly_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "BODY_GRACE_SECONDS", 1.5)
    head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    async with serving(tmp_path, "Hi.") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.client.base_url.port)
        writer.write(head + b"Content-Length: 60000000\r\n\r\n")
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not reading.done():
                writer.write(b" " * 2048)
                await asyncio.sleep(0.1)
        writer.close()
    assert reading.result().startswith(b"HTTP/1.1 408")


async def test_a_body_that_comes_slowly_all_along_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    monkeypatch.setattr(http_protocol, "BODY_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(http_protocol, "AVERAGE_BODY_RATE", 1024.0)
    body = json.dumps({**CHAT_BODY, "padding": "x" * 60_000}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    pieces = [body[start : start + 2048] for start in range(0, len(body), 2048)]
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, head + HOST + b"Connection: close\r\n\r\n", *pieces, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_kept_connection_and_a_long_answer_outlive_the_clock_of_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.5)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 1.5)
    async with serving(tmp_path, "x" * 60, step_seconds=0.03) as server:
        for _ in range(2):
            answer = await server.client.post(CHAT, json=CHAT_BODY)
            assert answer.json()["choices"][0]["message"]["content"] == "x" * 60
            await asyncio.sleep(1.7)


async def test_two_requests_in_one_piece_are_both_answered(tmp_path: Path):
    request = b"GET /health HTTP/1.1\r\n" + HOST
    async with serving(tmp_path, "Hi.") as server:
        answers = await raw(server, request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200") == 2


async def test_a_large_body_is_taken_whole_and_a_larger_one_is_413(tmp_path: Path):
    async with serving(tmp_path, "Hi.", context_window=400_000) as server:
        long = {**CHAT_BODY, "messages": [{"role": "user", "content": "x" * 300_000}]}
        taken = await server.client.post(CHAT, json=long)
        head = b"POST /v1/messages HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
        refused = await raw(server, head + b"Content-Length: 68000000\r\nConnection: close\r\n\r\n{}")
    assert taken.status_code == 200
    assert taken.json()["usage"]["prompt_tokens"] > 300_000
    assert refused.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("path", "size"), [(CHAT, 2 << 20), ("/v1/messages/count_tokens", 2 << 20), ("/admin/api/login", 1 << 20)]
)
async def test_a_body_without_a_length_is_413_as_soon_as_it_is_too_large(tmp_path: Path, path: str, size: int):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with serving(tmp_path, "Hi.", max_body_bytes=2 << 20) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.client.base_url.port)
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(size // 65_536 + 1):  # and no end of it
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            await writer.drain()
        async with asyncio.timeout(60):
            answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert answer.startswith(b"HTTP/1.1 413")
        assert (await server.client.get("/health")).status_code == 200


async def test_who_is_nobody_yet_may_send_little_and_the_admins_chat_much(tmp_path: Path):
    large = {**CHAT_BODY, "key": "wrong", "padding": "x" * (1 << 20)}
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    write_keys(tmp_path, ("admin", "admin", ADMIN_KEY))
    async with serving(tmp_path, "Hi.") as server:
        statuses = [
            (await server.client.post(path, json=body, headers=headers)).status_code
            for path, body, headers in (
                ("/admin/api/login", {"key": "wrong"}, {}),
                ("/admin/api/login", large, {}),
                ("/admin/api/chat", large, {}),
                ("/admin/api/chat", large, admin),
            )
        ]
        settings = await server.client.put("/admin/api/settings", json=large, headers=admin)
    assert statuses == [401, 413, 401, 200]
    assert settings.status_code == 413


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n"]
)
async def test_what_is_no_http_is_answered_and_closed(tmp_path: Path, garbage: bytes):
    async with serving(tmp_path, "Hi.") as server:
        answer = await raw(server, garbage)
        assert (await server.client.get("/health")).status_code == 200
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))


async def test_who_is_refused_while_still_sending_reads_the_refusal(tmp_path: Path):
    body = b"x" * 9_000_000
    head = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nConnection: close\r\n"
    async with serving(tmp_path, "Hi.") as server:
        for _ in range(5):
            answer = await raw(server, head + b"Content-Length: %d\r\n\r\n" % len(body), body)
            assert answer.startswith(b"HTTP/1.1 404")
            assert answer.endswith(b"}")
