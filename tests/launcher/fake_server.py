"""A server on loopback that plays given answers and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, object] = field(default_factory=dict)


@dataclass
class Reply:
    """A JSON body, a text as it is, or the lines of an event stream where `events` is given."""

    body: object = None
    status: int = 200
    events: Sequence[object] | None = None

    def content(self) -> bytes:
        if self.events is None:
            return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()
        shown = (event if isinstance(event, str) else json.dumps(event) for event in self.events)
        return "".join(f"data: {event}\n\n" for event in shown).encode()


Answer = Callable[[Request], Reply]


@dataclass
class FakeServer:
    """`answers` maps a path to what is answered there; other paths are 404."""

    url: str
    answers: dict[str, Answer]
    requests: list[Request] = field(default_factory=list)

    def serve_models(self, *entries: dict[str, object]) -> None:
        self.answers["/health"] = lambda _: Reply({"status": "ok"})
        self.answers["/v1/models"] = lambda _: Reply({"object": "list", "data": entries})


def chunk(delta: dict[str, object], finish_reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def text_reply(text: str, finish_reason: str = "stop", **usage: object) -> Reply:
    """A whole answer of a chat endpoint, in two chunks of text."""
    half = len(text) // 2
    events = [chunk({"role": "assistant", "content": text[:half]}), chunk({"content": text[half:]})]
    return Reply(events=[*events, chunk({}, finish_reason), {"choices": [], "usage": usage}, "[DONE]"])


def tool_reply(name: str, arguments: str) -> Reply:
    """A tool call whose arguments come in two pieces."""
    half = len(arguments) // 2
    opening = {"index": 0, "id": "call_1", "function": {"name": name, "arguments": arguments[:half]}}
    rest = {"index": 0, "function": {"arguments": arguments[half:]}}
    events = [chunk({"tool_calls": [opening]}), chunk({"tool_calls": [rest]}), chunk({}, "tool_calls")]
    return Reply(events=[*events, "[DONE]"])


@contextlib.contextmanager
def running() -> Iterator[FakeServer]:
    """A fake server on a free port for the time of the block."""
    fake = FakeServer("", {})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            fake.requests.append(request)
            answer = fake.answers.get(self.path, lambda _: Reply({"error": {"message": "not found"}}, 404))
            reply = answer(request)
            content = reply.content()
            self.send_response(reply.status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        fake.url = f"http://127.0.0.1:{http_server.server_address[1]}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            http_server.shutdown()
            thread.join()
