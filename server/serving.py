"""`omlx serve`: finds the models, listens, and runs until it is told to stop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from .engine.blas import engine_environment, has_own_gpu
from .engine.process import EngineCommand, EngineProcess
from .errors import EngineUnavailable, InsufficientMemory, SettingsError, ShuttingDown
from .following import can_rejoin, follow, num_ranks, rank_of, the_model
from .log_ring import LogRing
from .models.catalog import SERVED, ModelEntry, discover
from .models.device_memory import DeviceMemory, device_memory
from .models.hub import Hub
from .models.pool import ModelPool, Residency
from .models.split import Split
from .private_folder import exposed
from .server_log import start_logging
from .settings import ServeSettings
from .settings.keys import nearest
from .settings.model_store import ModelSettingsStore
from .settings.values import size_in_bytes
from .state_file import ServerState, check_writable, published, reachable_url, sole_server
from .stop_signals import Stopped, StopSignals

logger = logging.getLogger(__name__)

_GB = 10**9
_LISTEN_BACKLOG = 1024
_CUDA_GRAPHS = {"MLX_CUDA_GRAPH_CACHE_SIZE": "4000", "MLX_ENABLE_CACHE_THRASHING_CHECK": "0"}
"""MLX replays a CUDA graph it has met before, remembers 400, and ends the process once it has met 800 new ones, as a
server with rows coming and going soon has. The user's own values go first."""

EngineCommandFor = Callable[[ModelEntry], EngineCommand]


def serve(
    settings: ServeSettings,
    model: str | None = None,
    engine_command: EngineCommandFor | None = None,
    *,
    quiet: bool = False,
    split: Split | None = None,
    draft_model: str | None = None,
    stop_signals: StopSignals | None = None,
) -> None:
    """Run the server until SIGINT or SIGTERM. `quiet` keeps all but warnings to the log's file.

    `model` is loaded at once, without it the only model, and those whose settings say so. `engine_command`
    says how a model's engine process is started, MLX's by default. With `split` this is one rank of a group that
    serves one model, divided in that way; only rank 0 listens. `draft_model` drafts for `model`, whatever the
    model's settings say. The signals are caught until the process has ended, by `stop_signals` where those are
    caught already. Raises `SettingsError` when the address can't be had, `ModelNotFound`, and at the end
    `EngineUnavailable` where the group could not run.
    """
    stop_signals = stop_signals or StopSignals()
    stop_signals.catch()
    rank = 0 if split is None else rank_of(os.environ)
    if rank == 0:
        check_writable(settings.state_file)
    start_logging(settings.home / "logs" / (f"rank{rank}" if rank else ""), quiet=quiet)
    logs = LogRing()
    with logs.attached():
        for warning in (*(settings.configuration.warnings if settings.configuration else ()), *exposed(settings.home)):
            logger.warning("%s", warning)
        try:
            num_cut = _serve(settings, model, engine_command, split, rank, logs, draft_model, stop_signals)
        except Stopped as stopped:
            logger.info("Stopping, %s received: nothing was served yet", stopped.name)
            num_cut = 0
        logger.info("Stopped%s", f"; requests that were cut: {num_cut}" if num_cut else "")


def _serve(
    settings: ServeSettings,
    model: str | None,
    engine_command: EngineCommandFor | None,
    split: Split | None,
    rank: int,
    logs: LogRing,
    draft_model: str | None,
    stop_signals: StopSignals,
) -> int:
    """How many requests were cut."""
    memory = device_memory(has_own_gpu())
    if split is not None:
        memory = memory.times(num_ranks(os.environ))
    entries = find_models(settings, memory)
    if split is not None:
        parts = settings.home / "parts" / f"rank{rank}of{num_ranks(os.environ)}"
        entries = (the_model(entries, model, parts, lambda: Hub.of(os.environ)).within(memory),)
        engine_command = mlx_engine_command(settings, split)
    if engine_command is not None and rank:
        sys.exit(follow(engine_command(entries[0]), can_rejoin=can_rejoin(os.environ)))
    with sole_server(settings.state_file), listen(settings.host, settings.port) as listener:
        model_settings = ModelSettingsStore(settings.settings_file)
        draft_of = drafting(lambda: pool.entries, model_settings, {model_settings.real_name(model or ""): draft_model})
        command = engine_command or mlx_engine_command(settings, draft_of=draft_of)
        pool = make_pool(
            entries,
            command,
            model_settings,
            memory,
            is_group=split is not None,
            draft_of=draft_of if split is None else None,
        )
        _warn_of_names(entries, model_settings, is_group=split is not None)
        wanted = {entry.id for entry in entries if model_settings.get(entry.id).preload}
        named = None if model is None else pool.entry(model).id
        if named is not None:
            wanted.add(named)
        elif len(entries) == 1:
            wanted.add(entries[0].id)
        try:
            for model_id in sorted(wanted, key=lambda each: (each != named, each)):  # the one asked for has room first
                try:
                    pool.preload(model_id)  # it loads while this process imports the web framework
                except InsufficientMemory as error:
                    logger.error("%s", error)
            num_cut = _run(settings, pool, model_settings, listener, logs, stop_signals)
        finally:
            pool.kill()  # a second signal, or one before it all ran, leaves the engines behind
        if split is not None and pool.failed:
            raise EngineUnavailable("; ".join(pool.failed.values()))  # mlx.launch has ended what could not begin
        return num_cut


def find_models(settings: ServeSettings, memory: DeviceMemory | None = None) -> tuple[ModelEntry, ...]:
    """The models in the settings' folders that can be served, each with a line in the log.

    Their windows are what `memory` holds, this machine's unless given. Raises `SettingsError` for a folder that was
    named and is not there.
    """
    for folder in settings.model_dirs:
        if not folder.is_dir() and folder != settings.home / "models":
            raise SettingsError(f"model folder {folder} does not exist; create it, or correct {_named_by(settings)}")
    memory = memory or device_memory(has_own_gpu())
    there = [folder for folder in settings.model_dirs if folder.is_dir()]
    found = [entry for entry in discover(there) if entry.kind in SERVED]
    entries = tuple(entry.within(memory) for entry in found)
    for entry in entries:
        size = entry.size_bytes / _GB
        logger.info("Discovered model: %s (type: %s, engine: batched, size: %.2f GB)", entry.id, entry.kind, size)
        if entry.declared_window is not None:
            words = "%s declares a window of %d tokens; %d fit the %.1f GB there are for models"
            logger.info(words, entry.id, entry.declared_window, entry.context_window, memory.usable / _GB)
    if not entries:
        folders = ", ".join(map(str, settings.model_dirs))
        logger.warning(
            "No models in %s. `omlx pull REPO` downloads one, `omlx import FILE.gguf` takes one over", folders
        )
    return entries


def _named_by(settings: ServeSettings) -> str:
    """Where the model folders are from: FILE:LINE, a variable or the option."""
    found = settings.configuration.values.get("server.model_dirs") if settings.configuration else None
    return (found.place if found else "") or "--model-dir"


def _warn_of_names(entries: Sequence[ModelEntry], model_settings: ModelSettingsStore, *, is_group: bool) -> None:
    """Say which settings name a model that is not there, which alias a model's own name hides, and which model will
    not draft in a group."""
    ids = {entry.id for entry in entries}
    for model_id, settings in model_settings.configured.items():
        if model_id not in ids:
            logger.warning("Settings of %r: no such model%s", model_id, nearest(model_id, ids))
        if settings.alias in ids - {model_id}:
            logger.warning("The alias %r of %s is another model's name, which goes first", settings.alias, model_id)
        if is_group and settings.draft_model and model_id in ids:
            logger.warning("A group serves %s, for which %s does not draft", model_id, settings.draft_model)


def drafting(
    entries: Callable[[], Sequence[ModelEntry]], model_settings: ModelSettingsStore, flags: Mapping[str, str | None]
) -> Callable[[ModelEntry], ModelEntry | None]:
    """Which of the models drafts for one, by name: as `flags` say, else as the model's settings do at the time."""
    missed: set[tuple[str, str]] = set()

    def draft_of(entry: ModelEntry) -> ModelEntry | None:
        name = flags.get(entry.id) or model_settings.get(entry.id).draft_model
        if name is None:
            return None
        wanted = model_settings.real_name(name)
        found = next((each for each in entries() if each.id == wanted), None)
        if found is None and (entry.id, name) not in missed:
            missed.add((entry.id, name))
            ids = [each.id for each in entries()]
            logger.warning("No model drafts for %s: there is no %r%s", entry.id, name, nearest(name, ids))
        return found

    return draft_of


def mlx_engine_command(
    settings: ServeSettings,
    split: Split | None = None,
    draft_of: Callable[[ModelEntry], ModelEntry | None] = lambda _: None,
) -> EngineCommandFor:
    """Engines on MLX, under the settings' limits, or this rank's part of one. Their BLAS is looked for once, and
    logged."""
    environment = _CUDA_GRAPHS | engine_environment(os.environ)
    ranks = [] if split is None else [f"--split={split}"]
    argv = [sys.executable, "-P", "-m", "omlx.server.engine", *engine_flags(settings), *ranks, "--model"]

    def command(entry: ModelEntry) -> EngineCommand:
        smaller = draft_of(entry)
        draft = [] if smaller is None else ["--draft-model", str(smaller.path)]
        flags = [str(entry.path), "--kind", entry.kind.value, *draft]
        return EngineCommand([*argv, *flags], environment, entry.id, "" if split is None else "rank 0")

    return command


def engine_flags(settings: ServeSettings) -> list[str]:
    """What the engine process is told of the settings."""
    engine, cache = settings.engine, settings.cache
    flags = [f"--max-num-seqs={engine.max_num_seqs}", f"--max-num-waiting={engine.max_num_waiting}"]
    ram_bytes = cache.ram_bytes if cache.enabled else 0
    if ram_bytes is not None:
        flags.append(f"--cache-ram-bytes={size_in_bytes(ram_bytes)}")
    disk_bytes = size_in_bytes(cache.ssd_bytes) if cache.enabled else 0
    if disk_bytes:
        per_day = size_in_bytes(cache.ssd_bytes_per_day)
        flags += [
            f"--cache-dir={settings.cache_folder}",
            f"--cache-bytes={disk_bytes}",
            f"--cache-bytes-per-day={per_day}",
        ]
    return flags


def make_pool(
    entries: Sequence[ModelEntry],
    engine_command: EngineCommandFor,
    model_settings: ModelSettingsStore,
    memory: DeviceMemory | None = None,
    *,
    is_group: bool = False,
    draft_of: Callable[[ModelEntry], ModelEntry | None] | None = None,
) -> ModelPool[EngineProcess]:
    """A pool of engine processes in `memory`, this machine's unless given. Aliases, pins and times to live are those of
    `model_settings`; `draft_of` is what the engines' commands are made with."""

    def residency_of(model_id: str) -> Residency:
        settings = model_settings.get(model_id)
        return Residency(settings.pin, settings.ttl_seconds)

    def start(entry: ModelEntry) -> EngineProcess:
        return EngineProcess.start(engine_command(entry))

    def with_draft(entry: ModelEntry) -> ModelEntry:
        smaller = draft_of(entry) if draft_of else None
        if smaller is None or smaller.footprint is None or entry.footprint is None:
            return entry
        return replace(entry, footprint=entry.footprint.beside(smaller.footprint))

    return ModelPool(
        entries,
        start,
        memory or device_memory(has_own_gpu()),
        model_settings.real_name,
        residency_of,
        is_group=is_group,
        with_draft=with_draft,
    )


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


def _run(
    settings: ServeSettings,
    pool: ModelPool[EngineProcess],
    model_settings: ModelSettingsStore,
    listener: socket.socket,
    logs: LogRing,
    stop_signals: StopSignals,
) -> int:
    """Serve to the end; how many requests were cut."""
    from .app import create_app
    from .http_server import HttpServer

    instance_id = uuid4().hex
    port = listener.getsockname()[1]
    url = reachable_url(settings.host, port)
    app = create_app(settings, pool, instance_id, model_settings, logs)
    grace_seconds = settings.shutdown_grace_seconds
    server = HttpServer(
        app, pool.drain, lambda: pool.fail_requests(ShuttingDown()), grace_seconds, pool.kill, app.refusals
    )
    folders = tuple(map(str, settings.model_dirs))
    state = ServerState(os.getpid(), settings.host, port, url, instance_id, folders, str(settings.cache_folder))
    with published(settings.state_file, state):
        logger.info("omlx is listening on %s", url)
        stop_signals.pass_on(server.handle_exit)
        server.run(sockets=[listener])
    return server.num_cut
