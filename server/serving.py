"""`omlx serve`: finds the models, listens, and runs until it is told to stop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from .engine.blas import engine_environment
from .engine.process import EngineCommand, EngineProcess
from .errors import SettingsError, ShuttingDown
from .models.catalog import ModelEntry, ModelKind, discover
from .models.pool import ModelPool
from .settings import ServeSettings
from .state_file import ServerState, published, reachable_url

logger = logging.getLogger(__name__)

_GB = 10**9
_WEIGHTS_SHARE_OF_MEMORY = 0.75
_LISTEN_BACKLOG = 1024

EngineCommandFor = Callable[[ModelEntry], EngineCommand]


def serve(settings: ServeSettings, model: str | None = None, engine_command: EngineCommandFor | None = None) -> None:
    """Run the server until SIGINT or SIGTERM.

    `model` is loaded at once; without it the only model is. `engine_command` says how a model's engine
    process is started, MLX's by default. Raises `SettingsError` when the address can't be had, and
    `ModelNotFound`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    entries = find_models(settings)
    with listen(settings.host, settings.port) as listener:
        pool = make_pool(entries, engine_command or mlx_engine_command(settings.cache_folder))
        if model is None and len(entries) == 1:
            model = entries[0].id
        if model is not None:
            pool.preload(model)  # it loads while this process imports the web framework
        _run(settings, pool, listener)


def find_models(settings: ServeSettings) -> tuple[ModelEntry, ...]:
    """The language models in the settings' folders, each with a line in the log."""
    entries = tuple(entry for entry in discover(settings.model_dirs) if entry.kind is ModelKind.LLM)
    for entry in entries:
        size = entry.size_bytes / _GB
        logger.info("Discovered model: %s (type: %s, engine: batched, size: %.2f GB)", entry.id, entry.kind, size)
    if not entries:
        folders = ", ".join(map(str, settings.model_dirs))
        logger.warning("No models in %s. Add one with `omlx import FILE.gguf`, or choose a --model-dir", folders)
    return entries


def mlx_engine_command(cache_folder: Path) -> EngineCommandFor:
    """Engines on MLX that keep prompt prefixes in `cache_folder`. Their BLAS is looked for once, and logged."""
    environment = engine_environment(os.environ)
    argv = [sys.executable, "-m", "omlx.server.engine", "--cache-dir", str(cache_folder), "--model"]
    return lambda entry: EngineCommand([*argv, str(entry.path)], environment)


def make_pool(entries: Sequence[ModelEntry], engine_command: EngineCommandFor) -> ModelPool[EngineProcess]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = int(memory_bytes * _WEIGHTS_SHARE_OF_MEMORY)
    return ModelPool(entries, lambda entry: EngineProcess.start(engine_command(entry)), limit)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `SettingsError` saying why there is none."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}. Choose another --port") from None
    return listener


def _run(settings: ServeSettings, pool: ModelPool[EngineProcess], listener: socket.socket) -> None:
    from .app import create_app
    from .http_server import HttpServer

    instance_id = uuid4().hex
    port = listener.getsockname()[1]
    url = reachable_url(settings.host, port)
    app = create_app(settings, pool, instance_id)
    error = ShuttingDown("the server is shutting down; try again when it is back")
    server = HttpServer(app, lambda: pool.fail_requests(error), settings.shutdown_grace_seconds)
    with published(settings.state_file, ServerState(os.getpid(), settings.host, port, url, instance_id)):
        logger.info("omlx is listening on %s", url)
        server.run(sockets=[listener])
