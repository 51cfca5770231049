"""What the engine process tells before it goes on computing."""

from __future__ import annotations

import threading

from omlx.server.engine.messages import Alive, Cancel, Command, StepOutput, Submit

from .scripted_batch import ScriptedBatch
from .test_worker import SECONDS, Peer, worker


def test_who_is_admitted_hears_of_it_before_anything_is_computed():
    computing, go_on = threading.Event(), threading.Event()

    class Slow(ScriptedBatch):
        def prefill(self, request_id: str, count: int) -> list[int]:
            computing.set()
            assert go_on.wait(SECONDS)
            return super().prefill(request_id, count)

    with worker(lambda: Slow([[5, 0]])) as (peer, _):
        peer.receive()
        peer.send(Submit("a", [1, 2, 3], 10, [0]))
        assert computing.wait(SECONDS)
        news = peer.receive()
        assert isinstance(news, StepOutput)
        assert [update.request_id for update in news.updates] == ["a"]
        go_on.set()
        assert peer.receive_until_finished("a") == [5]


def test_who_has_left_is_told_of_before_anything_is_computed():
    both_run, go_on = threading.Event(), threading.Event()
    came = [threading.Event(), threading.Event()]  # both requests; that one of them leaves
    waiting = iter(came)

    class Slow(ScriptedBatch):
        def prefill(self, request_id: str, count: int) -> list[int]:
            assert came[0].wait(SECONDS)
            return super().prefill(request_id, count)

        def decode(self) -> dict[str, list[int]]:
            if len(self.opened) - len(self.released) == 2:
                both_run.set()
                assert came[1].wait(SECONDS)
            else:
                assert not came[1].is_set() or go_on.wait(SECONDS)
            return super().decode()

    def hear(command: Command) -> None:
        if isinstance(command, Alive):  # the engine has what came before it
            next(waiting).set()

    with worker(lambda: Slow([[5]]), hear_server=hear) as (peer, _):
        peer.receive()
        for command in (Submit("a", [1], 1_000_000), Submit("b", [2], 1_000_000), Alive()):
            peer.send(command)
        assert both_run.wait(SECONDS)
        for command in (Cancel("a"), Alive()):
            peer.send(command)
        for num_held in (2, 1):
            receive_until_held(peer, num_held)
        go_on.set()
        peer.send(Cancel("b"))
        receive_until_held(peer, 0)


def receive_until_held(peer: Peer, num_held: int) -> None:
    while not (isinstance(news := peer.receive(), StepOutput) and held(news) == num_held):
        assert news is not None


def held(news: StepOutput) -> int:
    return news.stats.num_running + news.stats.num_waiting
