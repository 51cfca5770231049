"""The locks hold nothing without a reason, and an audit that could not look is no audit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.packaging import audit
from tests.packaging.locked import LOCKS, ROOT, brought_by, npm_locks, pins, reasons, sentences

Answer = Callable[[list[dict[str, Any]]], bytes]


@contextmanager
def database(answer: Answer, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def knowing(*bad: audit.Package) -> Answer:
    def answer(queries: list[dict[str, Any]]) -> bytes:
        asked = [audit.Package(**{**query["package"], "version": query["version"]}) for query in queries]
        results = [{"vulns": [{"id": "X-1"}]} if each in bad else {} for each in asked]
        return json.dumps({"results": results}).encode()

    return answer


def run(monkeypatch: pytest.MonkeyPatch, address: str) -> int:
    monkeypatch.setattr(sys, "argv", ["audit", "--database", address])
    return audit.main()


def test_locks_without_a_known_hole_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(queries: list[dict[str, Any]]) -> bytes:
        asked.extend(query["package"]["name"] for query in queries)
        return knowing(*audit.KNOWN_BAD)(queries)

    with database(answer) as address:
        assert run(monkeypatch, address) == 0
    assert {name for lock in LOCKS for name, _ in pins(lock)} <= set(asked)


def test_a_published_hole_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [package for package in audit.locked_packages() if package.name in ("tomlkit", "htmx.org", "@openai/codex")]
    assert len(ours) >= 3
    for package in ours:
        with database(knowing(*audit.KNOWN_BAD, package)) as address:
            assert run(monkeypatch, address) == 1
        assert f"{' '.join(package)}: X-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (knowing(), 200),
        (knowing(audit.KNOWN_BAD[0]), 200),
        (knowing(audit.KNOWN_BAD[1]), 200),
        (lambda _: b'{"results": [{}]}', 200),
        (lambda _: b'{"results": null}', 200),
        (lambda _: b"{}", 200),
        (lambda _: b"<html>", 200),
        (knowing(*audit.KNOWN_BAD), 503),
        (knowing(*audit.KNOWN_BAD), 404),
    ],
)
def test_an_answer_that_says_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Answer, status: int
) -> None:
    with database(answer, status) as address:
        assert run(monkeypatch, address) == 2
    assert "NOT audited" in capsys.readouterr().err


def test_a_database_that_is_away_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with database(knowing(*audit.KNOWN_BAD)) as address:
        pass
    assert run(monkeypatch, address) == 2
    assert "NOT audited" in capsys.readouterr().err


@pytest.mark.parametrize("lock", ["runtime", "dev"])
def test_every_locked_package_has_its_reason(lock: str) -> None:
    locked = dict(pins(lock))
    found = reasons(locked, sentences((ROOT / "docs" / "dependencies.md").read_text()), brought_by())
    assert len(found) > 50
    assert [name for name, reason in found.items() if not reason] == []


def test_a_package_that_nobody_asks_for_has_none() -> None:
    assert reasons(["left-over", "click"], {"click": "the command line"}, {"left-over": {"gone"}}) == {
        "left-over": "",
        "click": "the command line",
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_its_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ")
    blocks = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(blocks) == len(pins(lock))
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_every_package_of_npm_has_its_hash_or_lies_in_one_that_has() -> None:
    locks = npm_locks()
    assert len(locks) > 5
    for lock, packages in locks.items():
        without = [place for place, each in packages.items() if "integrity" not in each and not each.get("inBundle")]
        assert without == [], lock
