"""Whoever looks at the log later sees who was refused and what was changed, and never a key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from omlx.server import app
from omlx.server.api import refusals
from omlx.server.api.admin import sessions
from omlx.server.api.keys import ServerKeys
from omlx.server.log_format import LogFormatter
from omlx.server.server_log import start_logging

from ..api.admin.admin_serving import ADMIN_KEY, INFERENCE_KEY, admin_serving, write_keys
from ..api.serving import MODEL, serving
from ..waiting import until

ADMIN = ("admin", "admin", ADMIN_KEY)
LOGIN = "/admin/api/login"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """From INFO on; and no minute is over before a test is, however slow."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(refusals, "_FIRST_SECONDS", 1e6)
    monkeypatch.setattr(sessions, "_FAILURE_SECONDS", 1e6)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers[:]
    start_logging(tmp_path / "logs", quiet=False)
    yield tmp_path / "logs" / "server.log"
    for handler in [each for each in root.handlers if each not in before]:
        root.removeHandler(handler)
        handler.close()


def told(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """The lines with all of these words, as they stand in the log."""
    lines = [LogFormatter("%(levelname)s %(message)s").format(record) for record in caplog.records]
    return [line for line in lines if all(word in line for word in words)]


async def test_a_flood_of_wrong_keys_is_two_lines_that_hold_no_key(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving(tmp_path, "Hi.", api_key="sk-right") as server:
        for number in range(60):
            headers = {"authorization": f"Bearer sk-guess-{number}"}
            assert (await server.client.get("/v1/models", headers=headers)).status_code == 401
        assert (await server.client.get("/v1/models")).status_code == 401
    first, others = told(caplog, "wrong key")
    assert first == "WARNING Refused a wrong key, from 127.0.0.1"
    assert "59 more times" in others
    assert told(caplog, "Refused no key") == ["WARNING Refused no key, from 127.0.0.1"]
    assert "guess" not in caplog.text
    assert "sk-right" not in caplog.text


async def test_a_client_that_errs_with_the_right_key_is_not_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving(tmp_path, "Hi.") as server:
        assert (await server.client.post("/v1/messages", content="{}")).status_code == 415
        assert (await server.client.get("/nothing-here")).status_code == 404
    assert told(caplog, "Refused") == []


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("host", "evil.example:80", "a foreign Host, from 127.0.0.1: 'evil.example:80'"),
        ("origin", "https://evil.example", "a foreign Origin, from 127.0.0.1: 'https://evil.example'"),
        ("origin", "https://me:secret@evil.example", "a foreign Origin, from 127.0.0.1: 'evil.example'"),
        ("sec-fetch-site", "cross-site", "a foreign Origin, from 127.0.0.1: 'none'"),
        ("origin", "x" * 3000, f"a foreign Origin, from 127.0.0.1: '{'x' * 100}…'"),
        ("origin", "\x85\x9b31m\xad", r"a foreign Origin, from 127.0.0.1: '\x85\x9b31m\xad'"),
    ],
)
async def test_a_foreign_host_or_origin_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str, value: str, words: str
):
    async with serving(tmp_path, "Hi.") as server:
        headers = [(header.encode(), value.encode("latin-1"))]
        for _ in range(3):
            assert (await server.client.get("/v1/models", headers=headers)).status_code == 403
    assert told(caplog, "Refused")[0] == f"WARNING Refused {words}"
    assert len(told(caplog, "Refused")) == 2


async def test_what_is_no_http_is_counted_too(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with serving(tmp_path, "Hi.") as server:
        url = server.client.base_url
        for _ in range(20):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"\x16\x03\x01 is no HTTP\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()
    first, others = told(caplog, "what is no HTTP request")
    assert first.startswith("WARNING Refused what is no HTTP request, from 127.0.0.1 (req_")
    assert "19 more times" in others
    assert told(caplog, "Invalid HTTP request") == []


async def test_the_wait_after_wrong_admin_keys_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with admin_serving(tmp_path) as admin:
        for _ in range(9):
            await admin.server.client.post(LOGIN, json={"key": "sk-guess"})
    (line,) = told(caplog, "as may be tried within a minute")
    assert line.startswith("WARNING ")
    assert line.endswith("from 127.0.0.1")
    first, others = told(caplog, "Refused a wrong admin key")
    assert first == "WARNING Refused a wrong admin key, from 127.0.0.1"
    assert "8 more times" in others
    assert "guess" not in caplog.text


async def test_keys_that_are_made_and_ended_are_told_of_with_their_scope(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with admin_serving(tmp_path) as admin:
        assert told(caplog, "Key made") == [], "those that were there are no news"
        write_keys(tmp_path, ADMIN, ("pi", "", INFERENCE_KEY))
        await admin.get("models")
        write_keys(tmp_path, ("admin", "admin", "sk-omlx-the-next"), ("pi", "", INFERENCE_KEY))
        await admin.http.get("/admin/api/models")
        write_keys(tmp_path, ("admin", "admin", "sk-omlx-the-next"))
        await admin.http.get("/admin/api/models")
    assert told(caplog, "Key ") == [
        "INFO Key made: pi (scope: agents)",
        "INFO Key ended: admin (scope: admin)",
        "INFO Key made: admin (scope: admin)",
        "INFO Key ended: pi (scope: agents)",
    ]
    assert "sk-omlx" not in caplog.text


async def test_the_log_goes_on_though_nobody_asks_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(app, "_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(refusals, "_FIRST_SECONDS", 0.0)
    async with serving(tmp_path, "Hi.") as server:
        write_keys(tmp_path, ("pi", "", INFERENCE_KEY))
        await until(lambda: bool(told(caplog, "Key made: pi")))
        async with asyncio.timeout(60):
            while not told(caplog, "Refused no key", "more times"):  # once two came between two looks
                await asyncio.gather(*(server.client.get("/v1/models") for _ in range(20)))


def test_keys_are_told_of_without_any_request_and_none_where_the_file_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    keys = ServerKeys(file=tmp_path / "keys.json")
    write_keys(tmp_path, ("p\x1b[31mi\n", "", INFERENCE_KEY))
    keys.read_anew()
    (tmp_path / "keys.json").write_text("{")
    keys.read_anew()
    write_keys(tmp_path, ("p\x1b[31mi\n", "", INFERENCE_KEY))
    keys.read_anew()
    (tmp_path / "keys.json").unlink()
    keys.read_anew()
    assert told(caplog, "Key ") == [
        "INFO Key made: p [31mi  (scope: agents)",
        "INFO Key ended: p [31mi  (scope: agents)",
    ]


async def test_what_is_done_through_the_admin_api_is_told_of_and_values_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with admin_serving(tmp_path) as admin:
        (await admin.put(f"loaded/{MODEL}")).raise_for_status()
        (await admin.put(f"loaded/{MODEL}")).raise_for_status()
        (await admin.delete(f"loaded/{MODEL}")).raise_for_status()
        (await admin.put(f"models/{MODEL}", {"alias": "secret", "pin": None})).raise_for_status()
        (await admin.put("settings", {"server.host": "10.9.8.7", "server.port": None})).raise_for_status()
        (await admin.put("settings", {})).raise_for_status()
        assert (await admin.put("settings", {"server.prt": 1})).status_code == 400
        (await admin.delete(f"models/{MODEL}")).raise_for_status()
    assert told(caplog, ", as asked") == [
        f"INFO Loading {MODEL}, as asked",
        f"INFO Unloading {MODEL}, as asked",
        f"INFO Settings of {MODEL} changed, as asked: alias, pin (unset)",
        "INFO Settings changed, as asked: server.host, server.port (unset)",
        f"INFO Deleted {MODEL}, as asked",
    ]
    assert "secret" not in caplog.text
    assert "10.9.8.7" not in caplog.text


async def test_the_file_has_what_a_stranger_sent_on_one_line(tmp_path: Path, log: Path):
    async with serving(tmp_path, "Hi.") as server:
        headers = [(b"origin", "\x85INFO omlx: all is well\x9b".encode("latin-1"))]
        assert (await server.client.get("/v1/models", headers=headers)).status_code == 403
    (line,) = [line for line in log.read_text().splitlines() if "all is well" in line]
    assert "WARNING omlx.server.api.refusals: Refused a foreign Origin" in line
