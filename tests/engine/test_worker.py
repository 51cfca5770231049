"""The engine process over a real socket, with a scripted batch."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from omlx.server.engine import worker as engine_worker
from omlx.server.engine.batch import BatchEngine, BatchInfo
from omlx.server.engine.messages import (
    Batching,
    Cancel,
    Command,
    EngineFailed,
    EngineMessage,
    EngineReady,
    Loading,
    Shutdown,
    StepOutput,
    Submit,
)
from omlx.server.engine.wire import frame, read_frame
from omlx.server.engine.worker import run
from omlx.server.errors import CorruptModel, EngineFailure

from ..scripted_engine import PacedBatch
from ..waiting import wait_until
from .scripted_batch import ScriptedBatch

SECONDS = 60
decoder = msgspec.msgpack.Decoder(EngineMessage)


class Peer:
    """The API process's end of the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, command: Command) -> None:
        self._connection.sendall(frame(command))

    def send_bytes(self, payload: bytes) -> None:
        self._connection.sendall(payload)

    def receive(self) -> EngineMessage | None:
        """The next message, what is told of loading and batching left out."""
        while (payload := read_frame(self._connection)) is not None:
            message = decoder.decode(payload)
            if not isinstance(message, Batching | Loading):
                return message
        return None

    def receive_until_finished(self, request_id: str) -> list[int]:
        token_ids: list[int] = []
        while isinstance(message := self.receive(), StepOutput):
            for update in message.updates:
                if update.request_id == request_id:
                    token_ids += update.token_ids
                    if update.finish_reason or update.error:
                        return token_ids
        raise AssertionError(f"the engine said {message} before the request's end")

    def hang_up(self) -> None:
        self._connection.close()


@contextmanager
def worker(
    make_batch: Callable[[], BatchEngine],
    heartbeat_seconds: float = 5.0,
    abandon: Callable[[], None] = lambda: None,
    hear_server: Callable[[Command], None] = lambda _: None,
) -> Iterator[tuple[Peer, Callable[[], int]]]:
    """An engine in a thread, and what waits for its exit status."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    status: list[int] = []
    engine = partial(run, theirs, make_batch, None, heartbeat_seconds, hear_server=hear_server, abandon=abandon)
    thread = threading.Thread(target=lambda: status.append(engine()))
    thread.start()

    def wait() -> int:
        thread.join(SECONDS)
        assert not thread.is_alive()
        return status[0]

    with ours, theirs:
        try:
            yield Peer(ours), wait
        finally:
            ours.close()
            thread.join(SECONDS)


def test_it_says_that_it_is_ready_and_answers():
    with worker(lambda: ScriptedBatch([[5, 6, 0]])) as (peer, _):
        ready = peer.receive()
        assert isinstance(ready, EngineReady)
        assert ready.device == "script"
        peer.send(Submit("a", [1, 2, 3], 10, [0]))
        assert peer.receive_until_finished("a") == [5, 6]


def test_no_piece_of_a_prompt_is_longer_than_pays_on_the_device():
    class Small(ScriptedBatch):
        @property
        def info(self) -> BatchInfo:
            return BatchInfo(device="script", weight_bytes=0, max_chunk=256)

    batch = Small([[5, 0]])
    with worker(lambda: batch) as (peer, _):
        peer.receive()
        peer.send(Submit("a", [1] * 5000, 10, [0]))
        peer.receive_until_finished("a")
    assert max(count for _, count in batch.chunks) == 256


def test_one_message_a_step_carries_all_rows():
    with worker(lambda: ScriptedBatch([[5]])) as (peer, _):
        peer.receive()
        for name in "ab":
            peer.send(Submit(name, [ord(name)], 10_000, [0]))
        together = False
        while not together:
            message = peer.receive()
            assert isinstance(message, StepOutput)
            together = {update.request_id for update in message.updates if update.token_ids} == {"a", "b"}


def test_an_idle_engine_says_that_it_lives():
    with worker(lambda: ScriptedBatch([[5, 0]]), heartbeat_seconds=0.01) as (peer, _):
        peer.receive()
        for _ in range(2):
            beat = peer.receive()
            assert isinstance(beat, StepOutput)
            assert beat.updates == []


def test_an_engine_that_has_been_idle_for_a_while_gives_memory_back():
    batch = ScriptedBatch([[5, 6]])
    with worker(lambda: batch, heartbeat_seconds=0.05) as (peer, _):
        assert isinstance(peer.receive(), EngineReady)
        peer.send(Submit("a", [1, 2], 2))
        assert peer.receive_until_finished("a") == [5, 6]
        peer.receive()
        wait_until(lambda: batch.num_rests > 0)


def test_a_bad_request_ends_alone():
    with worker(lambda: ScriptedBatch([[5, 0]])) as (peer, _):
        peer.receive()
        peer.send(Submit("bad", [], 10))
        assert peer.receive_until_finished("bad") == []
        peer.send(Submit("good", [1], 10, [0]))
        assert peer.receive_until_finished("good") == [5]


def test_shutdown_ends_it_cleanly_in_the_middle_of_an_answer():
    with worker(lambda: PacedBatch([[5]], 0.001)) as (peer, wait):
        peer.receive()
        peer.send(Submit("a", [1], 10_000))
        peer.receive()
        peer.send(Shutdown())
        assert wait() == 0


def test_an_engine_that_still_holds_a_row_when_it_is_idle_ends():
    class Leaking(ScriptedBatch):
        def release(self, request_id: str) -> None: ...

    with worker(lambda: Leaking([[5, 0]])) as (peer, wait):
        peer.receive()
        peer.send(Submit("a", [1], 10, [0]))
        assert peer.receive_until_finished("a") == [5]
        assert isinstance(peer.receive(), EngineFailed)
        assert wait() == 1


def test_an_engine_that_still_holds_a_row_when_it_is_told_to_end_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    class Leaking(ScriptedBatch):
        def release(self, request_id: str) -> None: ...

    monkeypatch.setattr(engine_worker, "_QUIET_SECONDS", SECONDS)
    batch = Leaking([[5, 0]])
    with worker(lambda: batch) as (peer, wait):
        peer.receive()
        peer.send(Submit("a", [1], 10, [0]))
        assert peer.receive_until_finished("a") == [5]
        peer.send(Shutdown())
        assert wait() == 1
    assert "the engine failed" in caplog.text
    assert batch.closed


def test_it_ends_when_the_other_side_is_gone():
    with worker(lambda: ScriptedBatch([[5]])) as (peer, wait):
        peer.receive()
        peer.send(Submit("a", [1], 1_000_000))
        peer.receive()
        peer.hang_up()
        assert wait() == 0


def test_loading_is_abandoned_when_the_other_side_is_gone():
    abandoned = threading.Event()

    def load() -> ScriptedBatch:
        assert abandoned.wait(SECONDS)  # whoever abandons ends the process; here loading ends
        return ScriptedBatch([[5]])

    with worker(load, abandon=abandoned.set) as (peer, wait):
        peer.hang_up()
        assert wait() == 0
    assert abandoned.is_set()


def test_nothing_is_abandoned_once_the_model_is_loaded_or_has_failed():
    abandoned = threading.Event()

    def fail() -> ScriptedBatch:
        raise CorruptModel("no weights")

    for load, status in ((lambda: ScriptedBatch([[5]]), 0), (fail, 1)):
        with worker(load, abandon=abandoned.set) as (peer, wait):
            peer.receive()
            peer.hang_up()
            assert wait() == status
    assert not abandoned.is_set()


def test_a_cancel_is_obeyed_between_two_steps():
    with worker(lambda: ScriptedBatch([[5]])) as (peer, _):
        peer.receive()
        peer.send(Submit("a", [1], 1_000_000))
        peer.receive()
        peer.send(Cancel("a"))
        peer.send(Submit("b", [2], 2))
        assert peer.receive_until_finished("b") == [5, 5]


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (OSError("no such folder"), False),
        (CorruptModel("no weights"), False),
        (EngineFailure("a rank has ended"), True),
    ],
)
def test_a_model_that_does_not_load_is_reported_and_whether_it_may_the_next_time(error: Exception, may_pass: bool):
    def fail() -> ScriptedBatch:
        raise error

    with worker(fail) as (peer, wait):
        message = peer.receive()
        assert isinstance(message, EngineFailed)
        assert str(error) in message.message
        assert message.may_pass is may_pass
        assert wait() == 1


def test_an_engine_that_fails_at_a_prompt_goes_on_with_the_others():
    with worker(lambda: PacedBatch([[5, 6, 7, 8, 0], [9, 0]], 0.001, poison=666)) as (peer, _):
        peer.receive()
        peer.send(Submit("talking", [1], 10, [0]))
        for number in range(5):
            peer.send(Submit(f"poison{number}", [666], 10, [0]))
        assert peer.receive_until_finished("talking") == [5, 6, 7, 8]
        peer.send(Submit("next", [2], 10, [0]))
        assert peer.receive_until_finished("next") == [9]


def test_an_error_in_a_step_of_all_rows_is_reported_before_it_ends():
    class Broken(ScriptedBatch):
        def decode(self) -> dict[str, list[int]]:
            raise RuntimeError("[METAL] the device is lost")

    with worker(lambda: Broken([[5]])) as (peer, wait):
        peer.receive()
        peer.send(Submit("a", [1], 10))
        message = peer.receive()
        while isinstance(message, StepOutput):
            message = peer.receive()
        assert isinstance(message, EngineFailed)
        assert message.message == "RuntimeError: [METAL] the device is lost"
        assert wait() == 1


def test_a_frame_that_is_no_command_is_reported_before_it_ends():
    with worker(lambda: ScriptedBatch([[5]])) as (peer, wait):
        peer.receive()
        peer.send_bytes(b"\x01\x00\x00\x00\x07")
        assert isinstance(peer.receive(), EngineFailed)
        assert wait() == 1


def test_the_process_ends_with_its_parent_and_never_loads_mlx(tmp_path: Path):
    child = tmp_path / "child.py"
    scripted = str(Path(__file__).with_name("scripted_batch.py"))
    child.write_text(
        "import importlib.util, socket, sys\n"
        f"spec = importlib.util.spec_from_file_location('scripted', {scripted!r})\n"
        "scripted = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(scripted)\n"
        "from omlx.server.engine.worker import run\n"
        "status = run(socket.socket(fileno=int(sys.argv[1])), lambda: scripted.ScriptedBatch([[5]]))\n"
        "sys.exit(7 if 'mlx' in sys.modules else status)\n"
    )
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with theirs:
        process = subprocess.Popen([sys.executable, child, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    with ours:
        assert isinstance(Peer(ours).receive(), EngineReady)
        Peer(ours).send(Submit("a", [1], 1_000_000))
        Peer(ours).receive()
    assert process.wait(SECONDS) == 0


def test_how_rows_are_decoded_together_is_told_when_it_is_known():
    class Undecided(ScriptedBatch):
        pieces = 2

        @property
        def batching(self) -> Batching:
            return Batching("undecided" if self.pieces else "padded")

        def idle(self) -> bool:
            self.pieces = max(0, self.pieces - 1)
            return self.pieces > 0

    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    thread = threading.Thread(target=run, args=(theirs, lambda: Undecided([[5]])))
    thread.start()
    with theirs, ours:
        messages = (decoder.decode(payload) for payload in iter(lambda: read_frame(ours), None))
        told = list(islice((each for each in messages if not isinstance(each, Loading)), 3))
        Peer(ours).send(Shutdown())
        thread.join(SECONDS)
    assert isinstance(told[0], EngineReady)
    assert told[1:] == [Batching("undecided"), Batching("padded")]


def test_what_cannot_be_told_anybody_is_not_told_the_log(caplog: pytest.LogCaptureFixture):
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        assert not engine_worker.report(theirs, EngineFailed("what was asked"))
    assert "EngineFailed" in caplog.text
    assert "what was asked" not in caplog.text
