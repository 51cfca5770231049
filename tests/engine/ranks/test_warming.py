"""A group that says that it is ready has taken the steps that it will serve, and nothing of them is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omlx.server.engine.batch import BatchInfo
from omlx.server.engine.messages import DraftStats, Submit
from omlx.server.engine.ngram_drafter import NgramDrafter
from omlx.server.engine.ranks.leader import LeaderBatch
from omlx.server.engine.ranks.progress import Progress
from omlx.server.engine.ranks.warming import Guesses, warm_up
from omlx.server.models.footprint import Footprint

from ..driving import TickingClock, drain, make_engine
from ..scripted_batch import ScriptedBatch
from ..tiny_model import greedy_solo, make_batch, prompt_of, submit, tiny_llama
from .nobody import Nobody


class _Kinds(Progress):
    """Notes what steps there are."""

    def __init__(self) -> None:
        super().__init__(TickingClock())
        self.kinds: set[tuple[str | int, ...]] = set()

    @contextmanager
    def step(self, *kind: str | int) -> Iterator[None]:
        self.kinds.add(kind)
        with super().step(*kind):
            yield


def test_no_step_of_ordinary_requests_is_the_first_of_its_kind() -> None:
    batch, progress = make_batch(tiny_llama(), max_bytes=0), _Kinds()
    warm_up(LeaderBatch(batch.scratch(Guesses()), lambda _: None, Nobody(), progress), TickingClock())
    assert ("decode", 0) in progress.kinds
    warm, progress.kinds = progress.kinds, set()
    engine = make_engine(LeaderBatch(batch, lambda _: None, Nobody(), progress))
    engine.idle()
    for number, length in enumerate((1, 2, 3, 5, 9, 20, 40, 100, 200, 300, 1000, 4000)):
        engine.submit(submit(f"{number}", prompt_of(length, number), 40))
        if number % 3 == 2:
            drain(engine)
    assert {kind[0] for kind in progress.kinds if kind} == {"prefill", "decode", "sleep"}
    assert max(kind for kind in progress.kinds if kind[:1] == ("decode",)) > ("decode", 0)  # some had drafts
    assert progress.kinds <= {*warm, ("sleep",), ()}


def test_a_warm_up_leaves_nothing_behind(tmp_path: Path) -> None:
    model = tiny_llama()
    batch = make_batch(model, disk=tmp_path, drafters=[NgramDrafter()])
    told: list[bytes] = []
    scratch = LeaderBatch(batch.scratch(Guesses()), told.append, Nobody(), Progress())
    warm_up(scratch, TickingClock())
    assert len(told) > 20
    assert scratch.drafts[1].num_drafts > 0
    scratch.end()
    batch.check()
    while batch.idle():
        pass
    memory = batch.memory()
    assert (memory.cache_bytes, memory.num_evicted_blocks, memory.disk_written_bytes) == (0, 0, 0)
    assert batch.drafts == [DraftStats("ngram", 0, 0, 0, 0.0)]
    assert not [*tmp_path.rglob("*.safetensors")]
    engine = make_engine(batch)
    engine.submit(submit("warm-up", prompt_of(300), 8))
    assert drain(engine)["warm-up"].token_ids == greedy_solo(model, prompt_of(300), 8)
    engine.close()


class _Pieces(ScriptedBatch):
    """Keeps no prefix; a token of a prompt takes `seconds`."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        super().__init__([[5]])
        self.now = 0.0
        self.computes_together = True
        self.num_rows = 0
        self._seconds = seconds
        self._memory_bytes = memory_bytes

    @property
    def info(self) -> BatchInfo:
        footprint = Footprint(weight_bytes=1000, token_bytes=1)
        return BatchInfo("script", 1000, footprint=footprint, memory_bytes=self._memory_bytes)

    def match(self, request: Submit) -> int:
        del request
        return 0

    def prefill(self, request_id: str, count: int) -> list[int]:
        self.now += count * self._seconds
        return super().prefill(request_id, count)

    def decode(self) -> dict[str, list[int]]:
        news = super().decode()
        self.num_rows = max(self.num_rows, len(news))
        return news


@pytest.mark.parametrize(
    ("seconds", "memory_bytes", "longest", "num_rows"),
    [(1e-5, 1 << 20, 2048, 5), (0.001, 1 << 20, 256, 5), (1, 1 << 20, 256, 5), (1e-5, 1600, 512, 1)],
    ids=["fast", "slow", "very slow", "little memory"],
)
def test_a_warm_up_computes_no_more_than_a_served_step_would(
    seconds: float, memory_bytes: int, longest: int, num_rows: int
) -> None:
    batch = _Pieces(seconds, memory_bytes)
    warm_up(batch, lambda: batch.now)
    assert max(count for _, count in batch.chunks) == longest
    assert batch.num_rows == num_rows
    assert bool(batch.together) is (num_rows > 1)
    batch.check()
    if longest == 256:
        assert sum(count for _, count in batch.chunks) < 4 * 256
