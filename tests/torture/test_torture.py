"""The short form of `make torture`: some of everything, every time."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis.stateful import rule

from omlx.server.cache.block_file import read_checked
from omlx.server.cache.tensor_file import DamagedFile

from ..e2e.test_distributed import engine_of, group
from ..machines import CountingMachine
from ..models.architectures.deepseek_v4_model import build
from ..models.architectures.test_deepseek_v4_memory import CONFIG, peak
from ..tiny_model import Shape, build_tiny_model, needs_embedded_model
from ..waiting import wait_until
from . import __main__ as torture
from . import deaths, disk, leaving, readers, soak, tiers
from .load import Outcome, engines_of, load, load_server, num_failures, peaks
from .load_server import MODEL
from .machines import MACHINES, machines
from .warm import KINDS, LENGTH, edges, warm


def test_no_answer_is_lost_doubled_or_crossed_while_clients_come_and_go():
    outcome = load(200, parallel=16, cut_share=0.3, seed=3, patience=0.05)
    assert outcome.wrong == 0, outcome.counts
    assert outcome.counts["answered"] > 100
    assert outcome.counts["cut"] > 20
    assert len(outcome.at_rest) == (4 if sys.platform == "linux" else 0)


@pytest.mark.parametrize(
    ("num_bytes", "descriptors", "num_cut", "share", "wrong"),
    [
        (5_000, 0, 2000, 1.0, 0),
        (9_000_000, 0, 2000, 1.0, 1),
        (0, 1, 2000, 1.0, 1),
        (-9_000_000, -1, 2000, 1.0, 0),
        (9_000_000, 1, 2000, 0.5, 0),
        (0, 0, 1999, 1.0, 1),
        (0, 0, 0, 0.5, 0),
    ],
)
def test_what_a_full_load_leaves_behind_and_fewer_cuts_than_a_fifth_are_wrong(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int, descriptors: int, num_cut: int, share: float, wrong: int
):
    at_rest = [(0, 90), (1_000_000, 20), (9_000_000, 90), (1_000_000 + num_bytes, 20 + descriptors)]
    outcome = Outcome(Counter({"answered": 10_000 - num_cut, "cut": num_cut}), at_rest=at_rest)
    monkeypatch.setattr(torture, "load", lambda *_, **__: outcome)
    assert next(torture.mixed_requests(share)).wrong == wrong


def test_what_an_engine_says_stands_in_the_log_of_its_load(tmp_path: Path):
    with load_server(tmp_path) as (server, port, _):
        httpx.post(f"http://127.0.0.1:{port}/v1/completions", json={"model": MODEL, "prompt": "say w1x times 1"})
        [engine] = engines_of(server.pid)
        os.kill(engine, signal.SIGUSR1)
        wait_until(lambda: "Current thread" in (tmp_path / "log").read_text())
    assert num_failures(tmp_path / "log") == 0


def test_a_server_that_is_killed_has_a_bad_end(tmp_path: Path):
    with load_server(tmp_path) as (server, _, held):
        server.kill()
    assert held == {"bad ends": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_is_gone_has_no_peak():
    space, resident = peaks([os.getpid(), 1 << 30])
    assert space > resident > 1 << 20
    assert peaks([1 << 30]) == (0, 0)


def test_a_killed_writer_of_the_cache_leaves_nothing_wrong(tmp_path: Path):
    counts = disk.kills(tmp_path, 15)
    assert counts["read"] > 0
    assert disk.bad(counts) == {}


def test_a_damaged_block_is_never_served(tmp_path: Path):
    counts = disk.faults(tmp_path / "cache", 100)
    assert disk.bad(counts) == {}
    assert counts["thrown away"] > 80


@pytest.mark.parametrize(
    ("is_damaged", "name"), [(True, "missed"), (False, "lost")], ids=["a damaged block", "a whole block"]
)
def test_a_block_that_goes_without_being_counted_is_found_out(
    is_damaged: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def read(path: str, go_on: Callable[[], None]) -> memoryview:
        try:
            raw = read_checked(path, go_on)
        except DamagedFile:
            if is_damaged:
                raise FileNotFoundError from None
            raise
        if is_damaged:
            return raw
        raise FileNotFoundError

    monkeypatch.setattr("omlx.server.cache.disk_tier.read_checked", read)
    assert set(disk.bad(disk.faults(tmp_path / "cache", 20))) == {name}


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_after_a_hit_is_the_cold_one_wherever_the_prompt_is_cut(kind: str, tmp_path: Path):
    cuts = [*random.Random(kind).sample(edges(LENGTH), 4), 127, 128, 129, 255, 256, 257]
    found = warm(kind, tmp_path, cuts, seed=11)
    assert not found.wrong, found.wrong
    assert found.hits["memory"] == found.answers["memory"]
    for where in ("disk", "restart"):
        assert found.read[where] > 0
        assert found.hits[where] >= found.answers[where] // 3


def test_every_machine_of_the_suite_runs_for_as_long_as_it_is_told():
    ran = list(machines(20))
    assert [each.what for each in ran] == list(MACHINES)
    assert not any(each.has_failed for each in ran)
    assert min(each.num_steps for each in ran) >= 20


def test_a_machine_that_fails_is_told_with_the_way_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Broken(CountingMachine):
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        @rule()
        def climb(self) -> None:
            self.count += 1
            assert self.count < 3

    monkeypatch.setattr("tests.torture.machines.MACHINES", {"broken": Broken})
    [ran] = machines(200)
    assert ran.has_failed
    assert capsys.readouterr().err.count("state.climb()") == 3


def test_make_torture_prints_one_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["torture", "--share", "0.01", "--only", "cache", "undo"])
    assert torture.main() == 0
    table = capsys.readouterr().out.partition("| what was done")[2].splitlines()
    assert len(table) == 2 + 2 + 5
    assert {line.count("|") for line in table[1:]} == {6}


def test_every_stream_has_its_error_when_the_engine_dies():
    ends = deaths.engine_deaths(1)
    assert len(ends.seconds) == 8
    assert ends.num_cut == 0


@needs_embedded_model
def test_a_real_models_row_is_free_soon_after_its_client_has_left_in_the_middle_of_a_prompt():
    left = leaving.leave(4, num_tokens=2000, shape=Shape(layers=8, heads=4, kv_heads=2, head_dim=64))
    assert all(left.seconds.values())
    assert max(map(max, left.seconds.values())) < 30


def test_few_times_are_as_bad_as_long_ones():
    assert not torture._times("", [0.01] * 100, 0.1, 1.0, "").wrong
    assert torture._times("", [0.01] * 99, 0.1, 1.0, "").wrong
    assert torture._times("", [0.01] * 98 + [0.2] * 2, 0.1, 1.0, "").wrong
    assert not torture._times("", [], 0.1, 0.5, "").wrong


@needs_embedded_model
def test_prefixes_on_disk_survive_a_killed_engine_and_no_answer_is_another():
    found = tiers.tiers(1, pause=4.0, rest=2.0, num_prefixes=3)
    assert (found.num_lost, found.num_wrong) == (0, 0), found
    assert found.counts["answered"] > 50
    assert found.figures["disk"] > 1000


@needs_embedded_model
def test_a_soak_of_a_real_model_judges_its_answers():
    found = soak.soak(6.0, "MLX")
    assert found.outcome.wrong == 0, found.outcome.counts
    assert found.outcome.counts["answered"] > 20
    assert set(found.slopes) == {"server", "engine"}


@pytest.mark.parametrize(
    ("per_hour", "scatter", "wrong"), [(0.9, 0, 0), (1.1, 0, 1), (5, 4_000_000, 0), (100, 4_000_000, 1)]
)
def test_an_engine_that_grows_in_its_soak_is_wrong(per_hour: float, scatter: int, wrong: int):
    sizes = [int(at * per_hour * 1e6 / 3600) + at // 30 % 2 * scatter for at in range(0, 900, 30)]
    samples = [(30.0 * place, [0, size], [9, 4]) for place, size in enumerate(sizes)]
    assert torture._soaked("a real model", soak.Soak(samples=samples), 1.0).wrong == wrong


def test_slow_readers_lose_nothing():
    found = readers.readers(2.0, 1)
    assert found.wrong == 0, found.counts
    assert found.counts["streams"] >= 24


@pytest.mark.parametrize(
    ("num_bytes", "gap", "broken", "wrong"),
    [(9_000_000, 0.035, 0, 0), (11_000_000, 0.015, 0, 1), (0, 0.045, 0, 1), (0, 0.0, 0, 1), (0, 0.015, 1, 1)],
)
def test_what_slow_readers_cost_others_is_judged(
    monkeypatch: pytest.MonkeyPatch, num_bytes: int, gap: float, broken: int, wrong: int
):
    found = readers.Readers(gaps={False: [0.01], True: [gap] if gap else []}, growth={False: 0, True: num_bytes})
    found.counts["broken off"] = broken
    monkeypatch.setattr(readers, "readers", lambda *_: found)
    assert [row.wrong for row in torture.slow_readers(1.0)] == [wrong]


def test_a_soak_tells_what_grew_and_leaves_no_descriptor():
    found = soak.soak(6.0)
    assert found.outcome.wrong == 0, found.outcome.counts
    assert set(found.slopes) == {"server", "engine"}
    before, after = found.descriptors
    assert after <= before + 6  # each client that is there now has one


def test_a_prompt_of_32k_tokens_takes_eight_times_the_memory_of_4k():
    model = build(CONFIG)
    assert peak(model, 32768) < 8.8 * peak(model, 4096)  # with the square it would be 64 times


@needs_embedded_model
def test_one_of_four_ranks_is_killed_and_the_group_comes_back(tmp_path: Path):
    build_tiny_model(tmp_path / "models" / "tiny", shape=Shape(kv_heads=4))
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "temperature": 0}
    with group(tmp_path, tmp_path / "models", size=4) as (client, launcher):
        before = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        with client.stream("POST", "/v1/chat/completions", json={**body, "max_tokens": 4000, "stream": True}) as told:
            lines = told.iter_lines()
            next(line for line in lines if '"content"' in line)
            killed = engine_of(launcher, 1)  # one of three
            rank = Path(f"/proc/{killed}/environ").read_text().partition("\0MLX_RANK=")[2][0]
            os.kill(killed, signal.SIGKILL)
            records = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        assert re.search(rf"rank {rank} \(.+\) has ended", records[-1]["error"]["message"])
        wait_until(lambda: client.get("/ready").status_code == 200, 120)
        after = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        assert after["choices"][0]["message"] == before["choices"][0]["message"]
