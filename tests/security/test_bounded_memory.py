"""What comes from nobody, or is no image, takes no memory: of a server's whole process, at any time."""

from __future__ import annotations

import base64
import re
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from ..api.test_shutdown import process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_MIB = 1 << 20
_HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
_TRAILERS = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
_SENT_BYTES = 64 * _MIB


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def images() -> dict[str, str]:
    pngs = {
        "an image of 16 GB": png(65_000, 65_000, b""),
        "an image that unpacks to 64 MiB": png(4096, 4096, zlib.compress(bytes(64 * _MIB))),
        "an image without dimensions": png(0, 0, b""),
    }
    frames = "data:video/jpeg;base64," + ",".join(["/9j/4AAQ"] * 10_000)
    named = {name: "data:image/png;base64," + base64.b64encode(data).decode() for name, data in pngs.items()}
    return {**named, "a broken image": "data:image/png;base64,AAAA", "ten thousand frames": frames}


def send_without_end(url: str, beginning: bytes, piece: bytes) -> None:
    """On one connection after the other, each as long as the server takes it, `_SENT_BYTES` in all."""
    address, left = (httpx.URL(url).host, httpx.URL(url).port or 0), _SENT_BYTES
    while left > 0:
        with socket.create_connection(address, timeout=60) as connection:
            try:
                connection.sendall(beginning)
                while left > 0:
                    left -= len(piece)
                    connection.sendall(piece)
            except ConnectionError:
                pass


def send_image(url: str, image: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": image}}]
    body = {"model": "scripted", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
    for _ in range(20):
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).status_code in (200, 400)


def peak_growth(pid: int, work: Callable[[], None]) -> int:
    """Bytes by which the process was larger at its largest, while `work` was done, than before."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = in_status(pid, "VmRSS")
    work()
    return in_status(pid, "VmHWM") - before


def in_status(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_what_is_refused_or_odd_takes_no_memory(tmp_path: Path):
    with process(tmp_path) as (server, url):
        abuse: dict[str, Callable[[], None]] = {
            "an endless header": partial(send_without_end, url, _HEAD + b"X-Endless: ", b"x" * 65_536),
            "headers without end": partial(send_without_end, url, _HEAD, b"X-Some: y\r\n" * 6_000),
            "an endless trailer": partial(send_without_end, url, _TRAILERS + b"X-Endless: ", b"x" * 65_536),
            "trailers without end": partial(send_without_end, url, _TRAILERS, b"X-Some: y\r\n" * 6_000),
            "an endless path": partial(send_without_end, url, b"GET /", b"x" * 65_536),
            **{name: partial(send_image, url, image) for name, image in images().items()},
        }
        for work in abuse.values():  # code is loaded, and what is kept for later is made
            work()
        grown = {name: peak_growth(server.pid, work) for name, work in abuse.items()}
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
    assert {name: size for name, size in grown.items() if size >= 5 * _MIB} == {}
