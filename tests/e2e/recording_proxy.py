"""A reverse proxy that keeps what passes through it: the witness of what an agent sent and what it was told."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@dataclass
class Exchange:
    """One request and its answer, as text. `key` came with it; `is_complete` is false where a side left early."""

    method: str
    path: str
    request: str
    key: str = ""
    status: int = 0
    answer: str = ""
    is_complete: bool = False


@dataclass
class RecordingProxy:
    url: str
    exchanges: list[Exchange] = field(default_factory=list)


@contextlib.contextmanager
def recording_proxy(upstream: str) -> Iterator[RecordingProxy]:
    """Listen on a free loopback port and pass everything to `upstream`, in the order of arrival."""
    address = urlsplit(upstream).netloc
    exchanges: list[Exchange] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            exchange = Exchange(self.command, self.path, body.decode("utf-8", "replace"), self._key())
            exchanges.append(exchange)
            connection = http.client.HTTPConnection(address, timeout=600)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
                connection.request(self.command, self.path, body or None, headers)
                self._pass_back(connection.getresponse(), exchange)
            except (ConnectionError, http.client.HTTPException):
                self.close_connection = True
            finally:
                connection.close()

        def _key(self) -> str:
            bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
            return bearer or self.headers.get("x-api-key", "")

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _forward

        def _pass_back(self, answer: http.client.HTTPResponse, exchange: Exchange) -> None:
            """The answer ends with the connection, whatever its framing was: the client needs no length."""
            exchange.status = answer.status
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                exchange.answer += piece.decode("utf-8", "replace")
                self.wfile.write(piece)
            exchange.is_complete = True

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing on standard error: the exchanges are the record."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield RecordingProxy(f"http://127.0.0.1:{server.server_port}", exchanges)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
