"""What the engine process tells before it goes on computing."""

from __future__ import annotations

import threading

from omlx.server.engine.messages import Alive, Cancel, Command, StepOutput, Submit

from .scripted_batch import ScriptedBatch
from .test_worker import SECONDS, worker


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
    decoding, has_left, go_on = threading.Event(), threading.Event(), threading.Event()

    class Slow(ScriptedBatch):
        def decode(self) -> dict[str, list[int]]:
            decoding.set()
            assert has_left.wait(SECONDS)
            return super().decode()

        def prefill(self, request_id: str, count: int) -> list[int]:
            assert not has_left.is_set() or go_on.wait(SECONDS)
            return super().prefill(request_id, count)

    def hear(command: Command) -> None:
        if isinstance(command, Alive):  # the engine has what came before it
            has_left.set()

    with worker(lambda: Slow([[5]]), hear_server=hear) as (peer, _):
        peer.receive()
        peer.send(Submit("stream", [1], 1_000_000))
        peer.send(Submit("prompt", [2] * 50_000, 1))
        assert decoding.wait(SECONDS)
        peer.send(Cancel("stream"))
        peer.send(Alive())
        for num_held in (2, 1):
            while not (isinstance(news := peer.receive(), StepOutput) and held(news) == num_held):
                assert news is not None
        go_on.set()
        peer.receive_until_finished("prompt")


def held(news: StepOutput) -> int:
    return news.stats.num_running + news.stats.num_waiting
