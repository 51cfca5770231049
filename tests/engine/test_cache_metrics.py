"""How full the prefix cache is, and what has left it, is seen at /metrics."""

from __future__ import annotations

from omlx.server.engine.messages import EngineStats
from omlx.server.metrics import Metrics


def test_the_cache_tells_its_share_its_evictions_and_its_writes():
    stats = EngineStats(cache_bytes=30, max_cache_bytes=120, num_evicted_blocks=7, disk_written_bytes=4096)
    shown = Metrics(lambda: {"m": stats}).render().decode()
    assert 'omlx:kv_cache_usage_perc{model_name="m"} 0.25' in shown
    assert 'omlx:prefix_cache_evictions_total{model_name="m"} 7.0' in shown
    assert 'omlx:prefix_cache_written_bytes_total{model_name="m"} 4096.0' in shown


def test_without_a_cache_nothing_of_it_is_used():
    shown = Metrics(lambda: {"m": EngineStats()}).render().decode()
    assert 'omlx:kv_cache_usage_perc{model_name="m"} 0.0' in shown
