"""Values as text: agents, models and probe results, for people and as JSON. No key is ever among it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import msgspec

from ..integrations.spec import Integration, Model
from .probe import ProbeResult, exit_code
from .probing import Probed, Status
from .selection import size_text
from .terminal import columns

_PROBE_ROW = "{:<20}  {:<7}  {:<7}  {:<6}  {}"
_OUTCOMES = {0: "ok", 3: "wrong", 4: "broken"}


def agents_text(agents: Sequence[tuple[Integration, bool]]) -> str:
    rows = [
        (
            agent.name,
            agent.title,
            "installed" if is_installed else "-",
            f"{agent.minimum_context:,}",
            agent.install_line(sys.platform) or "not for this system",
        )
        for agent, is_installed in agents
    ]
    return columns([("NAME", "AGENT", "HERE", "MIN WINDOW", "INSTALL WITH"), *rows])


def agents_json(agents: Sequence[tuple[Integration, bool]]) -> str:
    return as_json_text(
        [
            {
                "name": agent.name,
                "title": agent.title,
                "installed": is_installed,
                "minimum_context": agent.minimum_context,
                "install": agent.install_line(sys.platform),
                "wiring": agent.summary,
            }
            for agent, is_installed in agents
        ]
    )


def models_text(models: Sequence[Model]) -> str:
    rows = [
        (
            model.name,
            "-" if model.size_bytes is None else size_text(model.size_bytes),
            "-" if model.context_window is None else f"{model.context_window:,}",
            "yes" if model.loaded else "-",
        )
        for model in models
    ]
    return columns([("MODEL", "SIZE", "WINDOW", "LOADED"), *rows])


def status_text(status: Status) -> str:
    head = f"{status.address.url} ({status.address.source}): {status.health.status}"
    elsewhere = [str(stray) for stray in status.strays]
    return "\n".join([head, *status.health.troubles, models_text(status.models), *elsewhere])


def status_json(status: Status) -> str:
    models = [
        {
            "name": model.name,
            "size_bytes": model.size_bytes,
            "context_window": model.context_window,
            "loaded": model.loaded,
        }
        for model in status.models
    ]
    return as_json_text(
        {
            "url": status.address.url,
            "source": status.address.source,
            "status": status.health.status,
            "version": status.health.version,
            "loading": status.health.loading,
            "failed": status.health.failed,
            "reasons": status.health.reasons,
            "cache_trouble": status.health.cache_trouble,
            "models": models,
            "strays": [msgspec.to_builtins(stray) for stray in status.strays],
        }
    )


def probe_head() -> str:
    return _PROBE_ROW.format("PROBE", "WALL s", "TTFT s", "TOK/s", "RESULT")


def probe_row(result: ProbeResult) -> str:
    """A line of the table, which is written row by row: a slow endpoint takes minutes for all."""
    completion = result.completion
    return _PROBE_ROW.format(
        result.name,
        _figure(completion and completion.wall_seconds, 2),
        _figure(completion and completion.first_token_seconds, 3),
        _figure(completion and completion.decode_rate, 1),
        f"{'✓' if result.verdict.is_right else '✗'} {result.verdict.reason}",
    )


def probe_json(probed: Probed) -> str:
    probes = []
    for result in probed.results:
        completion = result.completion
        probes.append(
            {
                "name": result.name,
                "outcome": "broken" if result.is_broken else "ok" if result.verdict.is_right else "wrong",
                "reason": result.verdict.reason,
                "wall_seconds": completion and completion.wall_seconds,
                "first_token_seconds": completion and completion.first_token_seconds,
                "decode_tokens_per_second": completion and completion.decode_rate,
                "prompt_tokens": completion and completion.prompt_tokens,
                "cached_tokens": completion and completion.cached_tokens,
                "completion_tokens": completion and completion.completion_tokens,
            }
        )
    return as_json_text(
        {"url": probed.url, "model": probed.model, "outcome": _OUTCOMES[exit_code(probed.results)], "probes": probes}
    )


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def as_json_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
