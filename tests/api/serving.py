"""A whole server on loopback: real HTTP, real engine process, a scripted model."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tokenizers
from litestar.types import ASGIApp

from omlx.server.api.body_budget import BodyBudget
from omlx.server.app import create_app
from omlx.server.engine.process import EngineProcess
from omlx.server.errors import ShuttingDown
from omlx.server.http_server import HttpServer
from omlx.server.models.pool import ModelPool
from omlx.server.serving import EngineCommandFor, find_models, listen, make_pool
from omlx.server.settings import ServeSettings
from omlx.server.settings.model_store import ModelSettingsStore
from omlx.server.settings.values import EngineSettings

from ..scripted_engine import Script
from ..text_model import END_OF_TURN, build_text_model

MODEL = "tiny"


@dataclass(frozen=True, slots=True)
class Serving:
    client: httpx.AsyncClient
    http: HttpServer
    app: ASGIApp
    pool: ModelPool[EngineProcess]
    model_settings: ModelSettingsStore
    tokenizer: tokenizers.Tokenizer
    budget: BodyBudget


@asynccontextmanager
async def serving(
    folder: Path,
    *answers: str,
    step_seconds: float = 0.0,
    context_window: int = 4096,
    heartbeat_seconds: float = 10.0,
    api_key: str = "",
    max_num_seqs: int = 16,
    max_num_waiting: int = 256,
    stall_seconds: float = 300.0,
    shutdown_grace_seconds: float = 0.2,
    engine_command: EngineCommandFor | None = None,
    cache_trouble: str = "",
    prefill_seconds_per_token: float = 0.0,
    stalls: str = "",
    load: str = "",
    max_body_bytes: int = 64 << 20,
    send_buffer_bytes: int | None = None,
    build: Callable[[Path, int], tokenizers.Tokenizer] = build_text_model,
    end_of_turn: str = END_OF_TURN,
    poison: str = "",
    others: Sequence[str] = (),
) -> AsyncIterator[Serving]:
    """Serve the model `tiny`, which writes `answers` in order; the last one again and again. `build` writes its
    folder. Its engine cannot compute a prompt with the letter `poison` in it. The `others` are models that do the same.
    What the system holds of an answer for its client is bounded by `send_buffer_bytes`.
    """
    tokenizer = build(folder / "models" / MODEL, context_window)
    for name in others:
        build(folder / "models" / name, context_window)
    tokens = [tokenizer.encode(answer + end_of_turn).ids for answer in answers]
    bounds = max_num_seqs, max_num_waiting
    says = cache_trouble, prefill_seconds_per_token, stalls, tokenizer.encode(poison).ids[0] if poison else None
    script = Script(tokens, step_seconds, *bounds, stall_seconds / 8, *says, load)
    command = script.command(folder / "script.json")
    settings = ServeSettings(
        home=folder,
        model_dirs=(folder / "models",),
        port=0,
        api_key=api_key,
        max_body_bytes=max_body_bytes,
        heartbeat_seconds=heartbeat_seconds,
        shutdown_grace_seconds=shutdown_grace_seconds,
        engine=EngineSettings(stall_seconds=stall_seconds),
    )
    listener = listen(settings.host, settings.port)
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    model_settings = ModelSettingsStore(settings.settings_file)
    pool = make_pool(find_models(settings), engine_command or (lambda _: command), model_settings)
    app = create_app(settings, pool, "an-instance", model_settings)
    http = HttpServer(
        app,
        pool.drain,
        lambda: pool.fail_requests(ShuttingDown("shutting down")),
        settings.shutdown_grace_seconds,
        refusals=app.refusals,
    )
    running = asyncio.create_task(http.serve(sockets=[listener]))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=base_url, timeout=120) as client:
            budget = app.app
            assert isinstance(budget, BodyBudget)
            yield Serving(client, http, budget.app, pool, model_settings, tokenizer, budget)
    finally:
        http.should_exit = True
        await running
