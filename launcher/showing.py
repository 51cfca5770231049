"""Values as text: plans, models and probe results, for people and as JSON. No key is ever among it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from ..integrations.spec import KEY_VARIABLE, Integration, Model
from .plan import LaunchPlan
from .probe import exit_code
from .probing import Probed, Status
from .terminal import columns

MASK = "••••"
_SHORTEST_MASKED_KEY = 8  # A key like `omlx` is no secret, and would blot out words.
_OUTCOMES = {0: "ok", 3: "wrong", 4: "broken"}


def plan_text(plan: LaunchPlan) -> str:
    """What `--dry-run` prints."""
    window = "unknown" if plan.context_window is None else f"{plan.context_window:,} tokens"
    files = [(str(file.path), file.text.rstrip()) for file in plan.files]
    sections = [
        f"model    {plan.model} (window {window})",
        f"run      {_masked(shlex.join((plan.executable, *plan.arguments)), plan)}",
        *(f"set      {name}={_shown_value(value, plan)}" for name, value in sorted(plan.environment.items())),
        *(f"unset    {name}" for name in plan.unset),
        *(f"write    {path}\n{_indented(_masked(text, plan))}" for path, text in files),
        *(f"warning  {warning}" for warning in plan.warnings),
    ]
    return "\n".join(sections)


def plan_json(plan: LaunchPlan) -> str:
    return _json(
        {
            "agent": plan.agent,
            "model": plan.model,
            "context_window": plan.context_window,
            "command": [_masked(argument, plan) for argument in (plan.executable, *plan.arguments)],
            "environment": {name: _shown_value(value, plan) for name, value in plan.environment.items()},
            "unset": plan.unset,
            "files": [{"path": str(file.path), "text": _masked(file.text, plan)} for file in plan.files],
            "warnings": plan.warnings,
        }
    )


def plan_shell(plan: LaunchPlan, has_own_key: bool) -> str:
    """Lines for a POSIX shell that wire it as the launch would, and the command as a comment.

    The key isn't printed: it is in the user's environment already, or the server asks for none.
    """
    keys = [name for name, value in plan.environment.items() if _is_key(value, plan) and name != KEY_VARIABLE]
    others = {name: value for name, value in plan.environment.items() if not _is_key(value, plan)}
    return "\n".join(
        [
            *(f"unset {name}" for name in plan.unset),
            *(f"export {name}={shlex.quote(_masked(value, plan))}" for name, value in sorted(others.items())),
            *([] if has_own_key else [f"export {KEY_VARIABLE}=none"]),
            *(f'export {name}="${KEY_VARIABLE}"' for name in keys),
            f"# {_masked(shlex.join((plan.executable, *plan.arguments)), plan)}",
        ]
    )


def agents_text(agents: Sequence[tuple[Integration, bool]]) -> str:
    rows = [
        (agent.name, agent.title, "installed" if is_installed else "-", f"{agent.minimum_context:,}", agent.install)
        for agent, is_installed in agents
    ]
    return columns([("NAME", "AGENT", "HERE", "MIN WINDOW", "INSTALL WITH"), *rows])


def agents_json(agents: Sequence[tuple[Integration, bool]]) -> str:
    return _json(
        [
            {
                "name": agent.name,
                "title": agent.title,
                "installed": is_installed,
                "minimum_context": agent.minimum_context,
                "install": agent.install,
                "wiring": agent.summary,
            }
            for agent, is_installed in agents
        ]
    )


def models_text(models: Sequence[Model]) -> str:
    rows = [
        (
            model.name,
            "-" if model.size_bytes is None else f"{model.size_bytes / 1e9:.1f} GB",
            "-" if model.context_window is None else f"{model.context_window:,}",
            "yes" if model.loaded else "-",
        )
        for model in models
    ]
    return columns([("MODEL", "SIZE", "WINDOW", "LOADED"), *rows])


def status_text(status: Status) -> str:
    head = f"{status.address.url} ({status.address.source}): {status.health.status}"
    failed = f"\nfailed to load: {', '.join(status.health.failed)}" if status.health.failed else ""
    return f"{head}{failed}\n{models_text(status.models)}"


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
    return _json(
        {
            "url": status.address.url,
            "source": status.address.source,
            "status": status.health.status,
            "version": status.health.version,
            "loading": status.health.loading,
            "failed": status.health.failed,
            "models": models,
        }
    )


def probe_text(probed: Probed) -> str:
    rows = [
        (
            result.name,
            _figure(result.completion and result.completion.wall_seconds, 2),
            _figure(result.completion and result.completion.first_token_seconds, 3),
            _figure(result.completion and result.completion.decode_rate, 1),
            f"{'✓' if result.verdict.is_right else '✗'} {result.verdict.reason}",
        )
        for result in probed.results
    ]
    return columns([("PROBE", "WALL s", "TTFT s", "TOK/s", "RESULT"), *rows])


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
    return _json(
        {"url": probed.url, "model": probed.model, "outcome": _OUTCOMES[exit_code(probed.results)], "probes": probes}
    )


def _shown_value(value: str, plan: LaunchPlan) -> str:
    return MASK if _is_key(value, plan) else _masked(value, plan)


def _is_key(value: str, plan: LaunchPlan) -> bool:
    return value == plan.environment[KEY_VARIABLE]


def _masked(text: str, plan: LaunchPlan) -> str:
    key = plan.environment[KEY_VARIABLE]
    return text.replace(key, MASK) if len(key) >= _SHORTEST_MASKED_KEY else text


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _indented(text: str) -> str:
    return "\n".join(f"         {line}" for line in text.splitlines())


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
