"""A server that says nothing for some seconds before each answer: `python -m tests.e2e.slow_server SECONDS`.

It publishes its address as the real one does. Its one answer is `Patience.`
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "slow"
CONTEXT_WINDOW = 131_072
ANSWER = "Patience."


class Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the proxy before it keeps the record."""

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": MODEL, "max_model_len": CONTEXT_WINDOW}]}
        answers = {"/health": {"status": "ok"}, "/v1/models": models}
        found = answers.get(self.path)
        self._answer(200 if found else 404, "application/json", json.dumps(found or {}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/chat/completions":
            self._answer(404, "application/json", "{}")
            return
        time.sleep(float(sys.argv[1]))
        delta = {"role": "assistant", "content": ANSWER}
        chunks = [{"delta": delta, "finish_reason": None}, {"delta": {}, "finish_reason": "stop"}]
        records = [json.dumps({"id": "a", "model": MODEL, "choices": [{"index": 0, **chunk}]}) for chunk in chunks]
        self._answer(200, "text/event-stream", "".join(f"data: {record}\n\n" for record in [*records, "[DONE]"]))

    def _answer(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    path = Path(os.environ["HOME"]) / ".omlx" / "run" / "server.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"pid": os.getpid(), "host": "127.0.0.1", "port": port, "url": f"http://127.0.0.1:{port}"}
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**state, "instance_id": "slow"}))
    new.replace(path)
    server.serve_forever()


if __name__ == "__main__":
    main()
