"""What is remembered of requests, under way and ended, and the line each leaves in the log."""

from __future__ import annotations

import asyncio
import logging
import shlex

import pytest

from omlx.server.engine.ledger import RequestLedger, line
from omlx.server.engine.messages import SequenceUpdate
from omlx.server.engine.record import Phase, RequestRecord
from omlx.server.errors import ContextOverflow, UnsupportedModel
from omlx.server.events import Usage
from omlx.server.metrics import Metrics


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(dict)


@pytest.fixture
def ledger(metrics: Metrics, clock: Clock) -> RequestLedger:
    return RequestLedger(metrics, clock, lambda: 1e9 + clock.seconds)


def prefilling(ledger: RequestLedger, clock: Clock) -> RequestRecord:
    """A request with 1,000 tokens, 200 of them cached, that computed 400 in 2 seconds after it waited for two."""
    record = ledger.open("req_1", "claude", "m")
    record.rendered(1000)
    clock.seconds += 1
    record.submitted()
    record.admitted(Usage(1000, num_cached_tokens=200))
    clock.seconds += 3
    update = SequenceUpdate(
        "req_1", 600, 200, queue_seconds=1.0, num_disk_tokens=50, miss="the prompt differs", miss_token=230
    )
    record.computed(Usage(1000, num_cached_tokens=200), update)
    return record


def test_a_request_under_way_tells_how_far_it_is_and_how_long_it_will_take(ledger: RequestLedger, clock: Clock):
    prefilling(ledger, clock)
    (view,) = ledger.live()
    assert (view.phase, view.num_computed_tokens, view.prefill_rate, view.eta_seconds) == (Phase.PREFILL, 600, 200, 2)
    assert view.queue_seconds == 2
    assert (view.num_disk_tokens, view.miss, view.miss_token) == (50, "the prompt differs", 230)
    totals = ledger.totals
    assert (totals.num_computed_tokens, totals.num_cached_tokens, totals.num_disk_tokens) == (400, 200, 50)


def test_before_it_is_admitted_nobody_knows_how_long_it_takes(ledger: RequestLedger):
    ledger.open("req_1", "claude", "m").rendered(1000)
    (view,) = ledger.live()
    assert (view.phase, view.eta_seconds, view.num_prompt_tokens) == (Phase.QUEUED, None, 1000)


def test_a_request_that_ended_is_no_longer_under_way_and_keeps_its_rates(ledger: RequestLedger, clock: Clock):
    record = prefilling(ledger, clock)
    clock.seconds += 2
    record.generated(1)
    clock.seconds += 1
    record.generated(10)
    record.ended(Usage(1000, 11, 200), "stop")
    clock.seconds += 50
    assert ledger.live() == ()
    (view,) = ledger.ended()
    assert (view.phase, view.seconds, view.decode_rate, view.outcome) == (Phase.ENDED, 7, 10, "stop")


def test_the_line_in_the_log_splits_into_its_pairs(
    ledger: RequestLedger, clock: Clock, caplog: pytest.LogCaptureFixture
):
    record = prefilling(ledger, clock)
    clock.seconds += 2
    record.generated(1)
    with caplog.at_level(logging.INFO):
        record.ended(Usage(1000, 1, 200), "length")
    word, *pairs = shlex.split(caplog.messages[-1])
    fields = dict(pair.split("=", 1) for pair in pairs)
    assert word == "request"
    assert fields["agent"] == "claude"
    assert (fields["queue_ms"], fields["disk_tokens"], fields["miss"]) == ("2000", "50", "the prompt differs")
    assert (fields["prompt_tokens"], fields["cached_tokens"], fields["output_tokens"]) == ("1000", "200", "1")
    assert (fields["outcome"], fields["cause"]) == ("length", "-")
    assert fields["prefill_tps"] == "100.0"


def test_a_value_with_white_space_stays_one_value(ledger: RequestLedger):
    ledger.open("req_1", "a b\nc", "my model")
    (view,) = ledger.live()
    assert 'model="my model"' in line(view)
    assert "\n" not in line(view)


@pytest.mark.parametrize(
    ("error", "outcome", "cause"),
    [
        (ContextOverflow(40_001, 32_768), "error", "context_length_exceeded"),
        (asyncio.CancelledError(), "abort", "client_left"),
        (UnsupportedModel("a kind of model"), "error", "UnsupportedModel"),
        (KeyError("what the prompt says"), "error", "KeyError"),
    ],
)
def test_a_request_that_was_not_answered_says_why_without_a_word_of_it(
    ledger: RequestLedger, error: BaseException, outcome: str, cause: str
):
    ledger.open("req_1", "", "m").failed(error)
    (view,) = ledger.ended()
    assert (view.outcome, view.cause) == (outcome, cause)


def test_the_agents_are_remembered_with_their_last_request(ledger: RequestLedger, clock: Clock):
    ledger.open("req_1", "claude", "m")
    clock.seconds += 5
    ledger.open("req_2", "codex", "m")
    clock.seconds += 5
    ledger.open("req_3", "claude", "m")
    assert ledger.last_seen == {"codex": 1e9 + 105, "claude": 1e9 + 110}


def test_the_metrics_get_every_figure_once(ledger: RequestLedger, metrics: Metrics, clock: Clock):
    record = prefilling(ledger, clock)
    clock.seconds += 2
    record.generated(1)
    clock.seconds += 3
    record.generated(4)
    record.ended(Usage(1000, 5, 200), "stop")
    lines = (text for text in metrics.render().decode().splitlines() if not text.startswith("#"))
    figures = {name: float(value) for name, _, value in (text.rpartition(" ") for text in lines)}
    assert figures['omlx:request_queue_time_seconds_sum{model_name="m"}'] == 2
    assert figures['omlx:request_prefill_time_seconds_sum{model_name="m"}'] == 4
    assert figures['omlx:request_decode_time_seconds_sum{model_name="m"}'] == 3
    assert figures['omlx:request_prompt_tokens_sum{model_name="m"}'] == 1000
    assert figures['omlx:request_generation_tokens_sum{model_name="m"}'] == 5
    assert figures['omlx:inter_token_latency_seconds_count{model_name="m"}'] == 4
    assert figures['omlx:prefix_cache_hits_total{model_name="m"}'] == 200
    assert figures['omlx:prefix_cache_tier_hits_total{model_name="m",tier="disk"}'] == 50
    assert figures['omlx:prefix_cache_tier_hits_total{model_name="m",tier="ram"}'] == 150
