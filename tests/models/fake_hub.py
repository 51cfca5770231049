"""A model hub on loopback: its API on one port, its large files on another one, as the real hub's stand elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_HELD_SECONDS = 30
_LARGE = (".safetensors", ".bin")


@dataclass
class FakeHub:
    """`files` of one repository, `org/model`, at `commit`. What was asked stands in `requests`: side, method, path,
    the Range and the Authorization header."""

    url: str = ""
    storage_url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    token: str | None = None
    requests: list[tuple[str, str, str, str | None, str | None]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers of the storage break off."""
    has_ranges: bool = True
    held: threading.Event | None = None
    """Where there is one, the storage sends half of a file and the rest when it is set."""
    damages: int = 0
    """How many of the storage's next answers have a wrong first byte."""
    slow: dict[str, float] = field(default_factory=dict)
    """Seconds before the data of these files comes."""
    sends_on: dict[str, str] = field(default_factory=dict)
    """Where each side, "api", "hub" or "storage", sends on whoever asks it for the list of files or for a large one."""

    def ranges(self, name: str) -> list[str | None]:
        return [wanted for side, _, path, wanted, _ in self.requests if side == "storage" and path.endswith(name)]

    @property
    def downloaded(self) -> list[str]:
        """The large files whose data was asked for, not only their beginning."""
        asked = [(path, wanted) for side, _, path, wanted, _ in self.requests if side == "storage"]
        return [path.removeprefix("/") for path, wanted in asked if not wanted or wanted.endswith("-")]

    def tokens(self, side: str) -> set[str | None]:
        return {token for its_side, _, _, _, token in self.requests if its_side == side}

    def info(self) -> dict[str, object]:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),
                **(
                    {"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 130}}
                    if large(name)
                    else {}
                ),
            }
            for name, content in self.files.items()
        ]
        return {"id": "org/model", "modelId": "org/model", "sha": self.commit, "siblings": siblings}


def large(name: str) -> bool:
    return name.endswith(_LARGE)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def weights(num_bytes: int) -> bytes:
    """A safetensors file with one tensor of so many bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [num_bytes], "data_offsets": [0, num_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(index % 251 for index in range(num_bytes))


@contextlib.contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, answer)) for answer in (_answer_hub, _answer_storage)
    ]
    hub.url, hub.storage_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def _handler(hub: FakeHub, answer: Callable[[FakeHub, _Handler, str], None]) -> type[_Handler]:
    side = "hub" if answer is _answer_hub else "storage"

    def handle(self: _Handler) -> None:
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((side, self.command, path, self.headers["Range"], self.headers["Authorization"]))
        answer(hub, self, path)

    return type("Handler", (_Handler,), {"do_GET": handle, "do_HEAD": handle})


def _answer_hub(hub: FakeHub, handler: _Handler, path: str) -> None:
    if not path.removeprefix("/api/models").startswith("/org/model"):
        return handler.answer(404, X_Error_Code="RepoNotFound")
    if hub.token is not None and handler.headers["Authorization"] != f"Bearer {hub.token}":
        return handler.answer(403, X_Error_Code="GatedRepo")
    if path.startswith("/api/models/"):
        if "api" in hub.sends_on:
            return handler.answer(302, Location=hub.sends_on["api"])
        if "/revision/" in path and path.rpartition("/")[2] not in ("main", hub.commit):
            return handler.answer(404, X_Error_Code="RevisionNotFound")
        return handler.answer(200, json.dumps(hub.info()).encode(), Content_Type="application/json")
    name = path.partition(f"/resolve/{hub.commit}/")[2]
    content = hub.files[name]
    if not large(name):
        return handler.answer(200, content, ETag=f'"{sha256(content)[:40]}"', X_Repo_Commit=hub.commit)
    return handler.answer(
        302,
        Location=hub.sends_on.get("hub") or f"{hub.storage_url}/{name}",
        X_Repo_Commit=hub.commit,
        X_Linked_Etag=f'"{sha256(content)}"',
        X_Linked_Size=str(len(content)),
    )


def _answer_storage(hub: FakeHub, handler: _Handler, path: str) -> None:
    if "storage" in hub.sends_on:
        handler.answer(302, Location=hub.sends_on["storage"])
        return
    content = hub.files[path.removeprefix("/")]
    if hub.damages > 0:
        hub.damages -= 1
        content = bytes([content[0] ^ 1]) + content[1:]
    wanted = handler.headers["Range"] if hub.has_ranges else None
    first, _, last = wanted.removeprefix("bytes=").partition("-") if wanted else ("0", "", "")
    begin, end = int(first), int(last) + 1 if last else len(content)
    rest = content[begin:end]
    if not last:
        time.sleep(hub.slow.get(path.removeprefix("/"), 0.0))
    headers = {"Content_Range": f"bytes {begin}-{end - 1}/{len(content)}"} if wanted else {}
    if hub.held is not None:
        half = len(rest) // 2
        handler.answer(206 if wanted else 200, rest[:half], Content_Length=str(len(rest)), **headers)
        handler.wfile.flush()
        hub.held.wait(_HELD_SECONDS)
        with contextlib.suppress(OSError):  # whoever asked may have gone
            handler.wfile.write(rest[half:])
        handler.close_connection = True
        return
    if hub.cuts:
        sent = hub.cuts.pop(0)
        handler.answer(206 if wanted else 200, rest[:sent], Content_Length=str(len(rest)), **headers)
        handler.close_connection = True
        return
    handler.answer(206 if wanted else 200, rest, **headers)
