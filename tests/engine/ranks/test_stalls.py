"""A rank that lives and gets no further, or stood still for a while, is named, and no rank stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from omlx.server.engine.blas import engine_environment
from omlx.server.engine.messages import Alive, EngineFailed, EngineMessage, Submit
from omlx.server.engine.process import EngineCommand, EngineProcess
from omlx.server.engine.wire import frame, read_frame
from omlx.server.errors import EngineFailure, EngineUnavailable
from omlx.server.requests import SamplingParams

from ...waiting import until
from .models import write_llama
from .test_group import ring

_ROOT = Path(__file__).parents[3]
decode = msgspec.msgpack.Decoder(EngineMessage).decode


def _command(where: str, model: Path) -> list[str]:
    child = [sys.executable, "-m", "tests.engine.ranks.stalling_child", where]
    return [*child, "--split=tensor", "--cache-ram-bytes=0", "--model", str(model)]


@contextmanager
def _follower(where: str, model: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Rank 1, which must end by itself."""
    with subprocess.Popen(_command(where, model), cwd=_ROOT, env={**environment, "MLX_RANK": "1"}) as process:
        try:
            yield process
            assert process.wait(60) == 1
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("stuck", "where"),
    [(0, "joined"), (1, "joined"), (0, "load"), (1, "load"), (1, "first"), (0, "step"), (1, "step"), (0, "between")],
)
def test_a_rank_that_lives_and_goes_no_further_is_named_and_no_rank_stays_behind(
    tmp_path: Path, stuck: int, where: str
) -> None:
    model = write_llama(tmp_path / "model")
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(tmp_path, 2)), "PYTHONPATH": str(_ROOT)}
    environment |= {"LOAD_SECONDS": "15"} if where == "load" else {}
    environment |= {"ASSEMBLY_SECONDS": "10"} if where == "joined" else {}
    leader = EngineCommand(_command(where if stuck == 0 else "nowhere", model), {**environment, "MLX_RANK": "0"})

    async def why_it_ends() -> tuple[str, bool]:
        engine = EngineProcess.start(leader)
        try:
            await engine.attach()
            await engine.ready()
            stream = engine.submit(Submit("a", [1, 2, 3], 400, sampling=SamplingParams(temperature=0)))
            while (await stream.next()).finish_reason is None:
                pass
            return "", False
        except (EngineFailure, EngineUnavailable) as error:  # the latter where it never was ready
            return str(error), engine.failure_may_pass
        finally:
            await engine.stop()

    with _follower(where if stuck == 1 else "nowhere", model, environment):
        reason, may_pass = asyncio.run(why_it_ends())
    assert f"rank {stuck} " in reason  # perhaps both, where the one that waits gets hardly any of a core
    assert ("got no further for" in reason) is (where != "between")
    assert may_pass


def test_streams_do_not_wait_for_a_rank_that_is_busy_for_long_and_the_group_answers_once_it_goes_on(
    tmp_path: Path,
) -> None:
    model = write_llama(tmp_path / "model")
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(tmp_path, 2)), "PYTHONPATH": str(_ROOT)}
    leader = EngineCommand(_command("nowhere", model), {**environment, "MLX_RANK": "0"})

    async def answer(engine: EngineProcess, name: str) -> str:
        stream = engine.submit(Submit(name, [1, 2, 3], 4, sampling=SamplingParams(temperature=0)))
        while (update := await stream.next()).finish_reason is None:
            pass
        return update.finish_reason

    async def asked_twice() -> str:
        engine = EngineProcess.start(leader)
        try:
            await engine.attach()
            await engine.ready()
            with pytest.raises(EngineFailure, match=r"rank 1 .*got no further for \d+ seconds; try again") as held_up:
                await answer(engine, "a")
            assert engine.stalled_for == str(held_up.value)
            with pytest.raises(EngineUnavailable, match="got no further"):
                await answer(engine, "b")
            await until(lambda: not engine.stalled_for)
            return await answer(engine, "c")
        finally:
            await engine.stop()

    with subprocess.Popen(_command("busy", model), cwd=_ROOT, env={**environment, "MLX_RANK": "1"}) as follower:
        try:
            assert asyncio.run(asked_twice()) == "length"
            assert follower.wait(60) == 0
        finally:
            follower.kill()


def test_a_server_that_stands_still_is_told_to_go_on_and_the_whole_group_ends(tmp_path: Path) -> None:
    told: list[int] = []
    previous = signal.signal(signal.SIGCONT, lambda number, _: told.append(number))
    model = write_llama(tmp_path / "model")
    environment = {**engine_environment(os.environ), "MLX_HOSTFILE": str(ring(tmp_path, 2))}
    ours, theirs = socket.socketpair()
    with ours, theirs, _follower("nowhere", model, environment):
        command = [*_command("nowhere", model), "--fd", str(theirs.fileno())]
        with subprocess.Popen(
            command, cwd=_ROOT, env={**environment, "MLX_RANK": "0"}, pass_fds=[theirs.fileno()]
        ) as leader:
            ours.sendall(frame(Alive()))  # and nothing more
            try:
                assert leader.wait(60) == 1
            finally:
                leader.kill()
                signal.signal(signal.SIGCONT, previous)
        assert told == [signal.SIGCONT]
        theirs.close()
        messages = [decode(payload) for payload in iter(lambda: read_frame(ours), None)]
    assert isinstance(messages[-1], EngineFailed)
    assert messages[-1].message.startswith("rank 0's server has not answered for ")


_RANK_0 = """
import socket, threading
from omlx.server.engine.messages import RankMemory
from omlx.server.engine.ranks.control import Members
from omlx.server.engine.ranks.progress import Progress
listener = socket.create_server(("127.0.0.1", 0))
lost = threading.Event()
lose = lambda reason: (print(reason, flush=True), lost.set())
members = Members(listener, 2, RankMemory, Progress(), lose, print)
print(listener.getsockname()[1], members.token.hex(), flush=True)
members.meet()
print("met", flush=True)
lost.wait(120)
"""
_RANK_1 = """
import os, sys, time
from omlx.server.engine.messages import RankMemory
from omlx.server.engine.ranks.control import Meeting, Membership
from omlx.server.engine.ranks.progress import Progress
meeting = Meeting("127.0.0.1", int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
Membership(meeting, 1, RankMemory, Progress(), lambda reason: (print(reason, flush=True), os._exit(1)))
time.sleep(120)
"""


def test_a_rank_0_that_stood_still_and_goes_on_blames_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", _RANK_0], stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        try:
            meeting = leader.stdout.readline().split()
            command = [sys.executable, "-c", _RANK_1, *meeting]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
                assert leader.stdout.readline() == "met\n"
                leader.send_signal(signal.SIGSTOP)
                assert follower.communicate(timeout=120)[0] == "rank 0 has not answered for 3 seconds\n"
            leader.send_signal(signal.SIGCONT)
            assert leader.stdout.readline().startswith("rank 0 stood still for more than 3 seconds")
        finally:
            leader.kill()
