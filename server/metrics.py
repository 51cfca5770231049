"""What the server counts, for Prometheus. Names and meanings are vLLM's, under `omlx:`.

vLLM's list: https://docs.vllm.ai/en/latest/usage/metrics.html
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .engine.messages import EngineStats
from .events import Usage

_FIRST_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_SECONDS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_TOKENS = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
_LABEL = "model_name"


class Metrics:
    """The counters of one server. `stats` gives each engine's state when it is asked for."""

    def __init__(self, stats: Callable[[], Mapping[str, EngineStats]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(stats))
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of admitted requests")
        self._cached_tokens = self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache")
        self._queried_tokens = self._counter("prefix_cache_queries", "Prompt tokens looked for in the prefix cache")
        self._tier_tokens = Counter(
            "omlx:prefix_cache_tier_hits",
            "Prompt tokens found in the prefix cache, by tier",
            (_LABEL, "tier"),
            registry=self._registry,
        )
        self._disk = Gauge(
            "omlx:prefix_cache_disk_bytes", "Disk the prefixes of all models take", registry=self._registry
        )
        self._generation_tokens = self._counter("generation_tokens", "Tokens generated")
        self._finished = Counter(
            "omlx:request_success", "Requests by how they ended", (_LABEL, "finished_reason"), registry=self._registry
        )
        self._queue = self._histogram("request_queue_time_seconds", "Arrival to admission", _FIRST_TOKEN_SECONDS)
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "Arrival to the first token", _FIRST_TOKEN_SECONDS
        )
        self._token_gaps = _TokenGapCollector()
        self._registry.register(self._token_gaps)
        self._prefill = self._histogram(
            "request_prefill_time_seconds", "Admission to the first token", _FIRST_TOKEN_SECONDS
        )
        self._decode = self._histogram("request_decode_time_seconds", "First token to the last", _REQUEST_SECONDS)
        self._request = self._histogram("e2e_request_latency_seconds", "Arrival to the end", _REQUEST_SECONDS)
        self._prompt_length = self._histogram("request_prompt_tokens", "Prompt tokens of a request", _TOKENS)
        self._answer_length = self._histogram("request_generation_tokens", "Tokens a request generated", _TOKENS)

    def admitted(self, model: str, usage: Usage, num_disk_tokens: int, queue_seconds: float) -> None:
        self._prompt_tokens.labels(model).inc(usage.num_prompt_tokens)
        self._queried_tokens.labels(model).inc(usage.num_prompt_tokens)
        self._cached_tokens.labels(model).inc(usage.num_cached_tokens)
        self._tier_tokens.labels(model, "disk").inc(num_disk_tokens)
        self._tier_tokens.labels(model, "ram").inc(usage.num_cached_tokens - num_disk_tokens)
        self._queue.labels(model).observe(queue_seconds)

    def encoding(self, model: str, num_tokens: int, queue_seconds: float) -> None:
        """A request for vectors is admitted, which has no prefix to look for."""
        self._prompt_tokens.labels(model).inc(num_tokens)
        self._queue.labels(model).observe(queue_seconds)

    def first_token(self, model: str, seconds: float, prefill_seconds: float) -> None:
        self._first_token.labels(model).observe(seconds)
        self._prefill.labels(model).observe(prefill_seconds)

    def token_gaps(self, model: str) -> TokenGaps:
        return self._token_gaps.of(model)

    def finished(self, model: str, usage: Usage, reason: str, seconds: float, decode_seconds: float | None) -> None:
        """`decode_seconds` is None where no token came."""
        self._generation_tokens.labels(model).inc(usage.num_output_tokens)
        self._finished.labels(model, reason).inc()
        self._request.labels(model).observe(seconds)
        self._prompt_length.labels(model).observe(usage.num_prompt_tokens)
        if decode_seconds is not None:
            self._decode.labels(model).observe(decode_seconds)
            self._answer_length.labels(model).observe(usage.num_output_tokens)

    def render(self, disk_bytes: int = 0) -> bytes:
        """The text format, version 0.0.4. `disk_bytes` is what the cached prefixes of all models take on the disk."""
        self._disk.set(disk_bytes)
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(f"omlx:{name}", words, (_LABEL,), registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"omlx:{name}", words, (_LABEL,), buckets=buckets, registry=self._registry)


class TokenGaps:
    """A model's times between two tokens, counted by the bounds of a histogram.

    Every token is counted, so this is a third of what the client library's own histogram costs.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(_TOKEN_SECONDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float, count: int) -> None:
        """`count` tokens, each so many seconds after the one before."""
        self._counts[bisect_left(_TOKEN_SECONDS, seconds)] += count
        self._seconds += seconds * count

    def add_to(self, family: HistogramMetricFamily, model: str) -> None:
        bounds = [*map(floatToGoString, _TOKEN_SECONDS), "+Inf"]
        family.add_metric((model,), list(zip(bounds, accumulate(self._counts), strict=True)), self._seconds)


class _TokenGapCollector(Collector):
    def __init__(self) -> None:
        self._gaps: dict[str, TokenGaps] = {}

    def of(self, model: str) -> TokenGaps:
        return self._gaps.setdefault(model, TokenGaps())

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily("omlx:inter_token_latency_seconds", "Between two tokens", labels=(_LABEL,))
        for model, gaps in self._gaps.items():
            gaps.add_to(family, model)
        yield family


class _EngineCollector(Collector):
    """The engines' own figures, read when they are asked for."""

    def __init__(self, stats: Callable[[], Mapping[str, EngineStats]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        gauges = (
            ("num_requests_running", "Requests being computed", lambda stats: stats.num_running),
            ("num_requests_waiting", "Requests waiting", lambda stats: stats.num_waiting),
            ("prefix_cache_bytes", "Memory the prefix cache holds", lambda stats: stats.cache_bytes),
            ("prefix_cache_damaged_blocks", "Blocks on disk found damaged", lambda stats: stats.num_damaged_blocks),
            ("engine_memory_bytes", "Memory the engine holds", lambda stats: stats.memory_bytes),
        )
        for name, words, read in gauges:
            family = GaugeMetricFamily(f"omlx:{name}", words, labels=(_LABEL,))
            for model, stats in self._stats().items():
                family.add_metric((model,), read(stats))
            yield family
        yield from self._cache()
        yield from self._ranks()
        yield from self._drafts()

    def _cache(self) -> Iterator[Metric]:
        """How full the prefix cache is, and what has left it."""
        usage = GaugeMetricFamily("omlx:kv_cache_usage_perc", "Used share of the prefix cache", labels=(_LABEL,))
        evictions = CounterMetricFamily(
            "omlx:prefix_cache_evictions", "Blocks that had to leave the memory", labels=(_LABEL,)
        )
        written = CounterMetricFamily("omlx:prefix_cache_written_bytes", "Bytes written to the disk", labels=(_LABEL,))
        for model, stats in self._stats().items():
            usage.add_metric((model,), stats.cache_bytes / stats.max_cache_bytes if stats.max_cache_bytes else 0.0)
            evictions.add_metric((model,), stats.num_evicted_blocks)
            written.add_metric((model,), stats.disk_written_bytes)
        yield from (usage, evictions, written)

    def _ranks(self) -> Iterator[Metric]:
        """What each rank of a model on several machines holds."""
        labels = (_LABEL, "rank")
        cache = GaugeMetricFamily("omlx:rank_prefix_cache_bytes", "Memory a rank's prefix cache holds", labels=labels)
        memory = GaugeMetricFamily("omlx:rank_memory_bytes", "Memory a rank's engine holds", labels=labels)
        for model, stats in self._stats().items():
            for rank, held in enumerate(stats.ranks):
                cache.add_metric((model, str(rank)), held.cache_bytes)
                memory.add_metric((model, str(rank)), held.memory_bytes)
        yield from (cache, memory)

    def _drafts(self) -> Iterator[Metric]:
        """What drafts have brought, drafter by drafter."""
        counted = (
            ("spec_decode_num_drafts", "Steps of requests that had a draft", lambda drafts: drafts.num_drafts),
            ("spec_decode_num_draft_tokens", "Tokens drafted", lambda drafts: drafts.num_tokens),
            ("spec_decode_num_accepted_tokens", "Drafted tokens that were right", lambda drafts: drafts.num_accepted),
        )
        labels = (_LABEL, "drafter")
        families = [(CounterMetricFamily(f"omlx:{name}", words, labels=labels), read) for name, words, read in counted]
        speed = GaugeMetricFamily("omlx:spec_decode_speedup", "Speed of drafted steps, 1 without", labels=labels)
        for model, stats in self._stats().items():
            for drafts in stats.drafts:
                for family, read in families:
                    family.add_metric((model, drafts.drafter), read(drafts))
                if drafts.num_drafts:
                    speed.add_metric((model, drafts.drafter), drafts.speedup)
        yield from (family for family, _ in families)
        yield speed
