"""The server of `overhead`: `python -m tests.bench.overhead_server HOME`.

Two engines that cost nothing stand behind the real server. `instant` answers one token, in this very process and
at once; `paced` is a scripted engine process that gives every running request a token each step.
`GET /cpu` tells the CPU seconds of the API process so far; `POST /bare` streams with no server of ours in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from litestar.types import Receive, Scope, Send

from omlx.server.app import create_app
from omlx.server.engine.engine_stream import EngineStream
from omlx.server.engine.messages import EngineReady, EngineStats, SequenceUpdate, Submit
from omlx.server.engine.process import EngineProcess
from omlx.server.errors import OmlxError
from omlx.server.events import FinishReason
from omlx.server.http_server import HttpServer
from omlx.server.models.catalog import ModelEntry
from omlx.server.models.device_memory import DeviceMemory
from omlx.server.models.pool import ModelPool
from omlx.server.serving import find_models, listen
from omlx.server.settings import ServeSettings

from ..scripted_engine import Script
from ..text_model import END_OF_TURN, build_text_model

INSTANT, PACED = "instant", "paced"
TOKENS_AN_ANSWER = 1500
STEP_SECONDS = 0.003
CONTEXT_WINDOW = 1_000_000
_PIECE = b"x" * 230


class InstantEngine:
    """Answers a request the moment it is submitted, with one token."""

    is_alive = True
    is_loading = False
    stats = EngineStats()
    claimed_bytes = 0

    async def attach(self) -> None:
        pass

    async def ready(self) -> EngineReady:
        return EngineReady("none", 0, 0.0)

    def submit(self, submit: Submit) -> EngineStream:
        stream = EngineStream(lambda: None)
        stream.put(SequenceUpdate(submit.request_id))
        stream.put(SequenceUpdate(submit.request_id, len(submit.token_ids), 0, [1], FinishReason.LENGTH))
        return stream

    def limit_memory(self, num_bytes: int) -> None:
        del num_bytes

    def fail_requests(self, error: OmlxError) -> None:
        del error

    async def stop(self) -> None:
        pass


async def send_bare(receive: Receive, send: Send) -> None:
    """As many pieces at the same pace, and nothing else: what HTTP alone costs on this machine."""
    message = await receive()
    assert message["type"] == "http.request"
    count = min(json.loads(message["body"])["max_tokens"], TOKENS_AN_ANSWER)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(count):
        await asyncio.sleep(STEP_SECONDS)
        await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    home = Path(sys.argv[1])
    tokenizer = build_text_model(home / "models" / INSTANT, CONTEXT_WINDOW)
    build_text_model(home / "models" / PACED, CONTEXT_WINDOW)
    answer = tokenizer.encode("word " * (TOKENS_AN_ANSWER // 5) + END_OF_TURN).ids
    command = Script([answer], STEP_SECONDS, max_num_seqs=64).command(home / "script.json")

    def start(entry: ModelEntry) -> Any:
        return InstantEngine() if entry.id == INSTANT else EngineProcess.start(command)

    settings = ServeSettings(home=home, model_dirs=(home / "models",), port=0)
    with listen(settings.host, settings.port) as listener:
        pool: ModelPool[Any] = ModelPool(find_models(settings), start, memory=DeviceMemory(2**40, 2**40))
        app = create_app(settings, pool, "bench")

        async def with_cpu(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") == "/bare":
                await send_bare(receive, send)
                return
            if scope.get("path") != "/cpu":
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": repr(time.process_time()).encode(), "more_body": False})

        print(listener.getsockname()[1], flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            HttpServer(with_cpu, lambda: None, lambda: None, 0.1).run(sockets=[listener])


if __name__ == "__main__":
    main()
