"""The histogram that is counted by hand reads as the client library's own would."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from omlx.server.metrics import Metrics

NAME = "omlx:inter_token_latency_seconds"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


def lines(text: bytes) -> list[str]:
    return [line for line in text.decode().splitlines() if NAME in line and "_created" not in line]


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.005, 0.0051, 0.3, 10, 11])
def test_a_gap_falls_into_the_bucket_it_belongs_to(seconds: float) -> None:
    metrics, registry = Metrics(dict), CollectorRegistry()
    expected = Histogram(NAME, "Between two tokens", ("model_name",), buckets=BOUNDS, registry=registry)
    for model, count in (("a", 1), ("b", 3)):
        metrics.token_gaps(model).observe(seconds, count)
        for _ in range(count):
            expected.labels(model).observe(seconds)

    assert [line.split(" ")[0] for line in lines(metrics.render())] == [
        line.split(" ")[0] for line in lines(generate_latest(registry))
    ]
    for found, wanted in zip(lines(metrics.render()), lines(generate_latest(registry)), strict=True):
        if not found.startswith("#"):
            assert float(found.rsplit(" ", 1)[1]) == pytest.approx(float(wanted.rsplit(" ", 1)[1]))
