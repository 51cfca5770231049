"""The engine process: commands in from one socket, one message a step out.

Nothing here knows MLX; `make_batch` brings the model.
"""

from __future__ import annotations

import faulthandler
import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from ..errors import OmlxError
from .batch import BatchEngine
from .engine import Engine
from .messages import Cancel, Command, EngineFailed, EngineMessage, EngineReady, Shutdown, Submit
from .scheduler import Scheduler, SchedulerLimits
from .wire import frame, read_frame

logger = logging.getLogger(__name__)

_Commands = queue.SimpleQueue[Command | BaseException | None]


def run(
    connection: socket.socket,
    make_batch: Callable[[], BatchEngine],
    limits: SchedulerLimits | None = None,
    heartbeat_seconds: float = 5.0,
) -> int:
    """Load, say so, and serve until told to shut down or the other side closes. The process's exit status.

    The other side hears of every step and, where there is nothing to do, every `heartbeat_seconds`. The calling
    thread does all the model's work; a second one reads commands.
    """
    commands: _Commands = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, commands), name="engine-inbox", daemon=True).start()
    try:
        started = time.perf_counter()
        batch = make_batch()
        info = batch.info
        load_seconds = time.perf_counter() - started
        _send(
            connection,
            EngineReady(info.device, info.weight_bytes, load_seconds, info.batching, info.batching_reason),
        )
        engine = Engine(Scheduler(limits or SchedulerLimits()), batch, time.perf_counter)
        try:
            _serve(connection, commands, engine, batch, heartbeat_seconds)
        finally:
            batch.close()
    except ConnectionError:
        logger.info("the server has gone; the engine ends")
    except OmlxError as error:
        logger.error("%s", error)
        _report(connection, EngineFailed(str(error)))
        return 1
    except Exception as error:
        logger.exception("the engine failed")
        _report(connection, EngineFailed(f"{type(error).__name__}: {error}"))
        return 1
    return 0


def set_signals() -> None:
    """Leave Ctrl-C to the server: it reaches the whole process group, and the server ends the engine.
    SIGUSR1 is how it has a stuck engine write to the log where it stands."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)


def _serve(
    connection: socket.socket,
    commands: _Commands,
    engine: Engine,
    batch: BatchEngine,
    heartbeat_seconds: float,
) -> None:
    while True:
        wait = not engine.has_work
        beat_at = time.perf_counter() + heartbeat_seconds
        while wait and commands.empty() and time.perf_counter() < beat_at and batch.idle():
            pass
        while wait or not commands.empty():
            try:
                command = commands.get(timeout=max(0.0, beat_at - time.perf_counter()))
            except queue.Empty:
                break  # a step with nothing to do is the heartbeat
            wait = False
            match command:
                case Submit():
                    engine.submit(command)
                case Cancel():
                    engine.cancel(command.request_id)
                case Shutdown() | None:
                    return
                case BaseException():
                    raise command
        _send(connection, engine.step())


def _read(connection: socket.socket, commands: _Commands) -> None:
    """Pass on every command; `None` at the end of the stream, the exception where it cannot be read."""
    decoder = msgspec.msgpack.Decoder(Command)
    try:
        while (payload := read_frame(connection)) is not None:
            commands.put(decoder.decode(payload))
        commands.put(None)
    except OSError:
        commands.put(None)
    except msgspec.MsgspecError as error:
        commands.put(error)


def _send(connection: socket.socket, message: EngineMessage) -> None:
    connection.sendall(frame(message))


def _report(connection: socket.socket, message: EngineMessage) -> None:
    """Send where someone still listens."""
    try:
        _send(connection, message)
    except OSError:
        logger.warning("the server has gone before it could be told: %s", message)
