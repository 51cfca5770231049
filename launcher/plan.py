"""From an integration and a target to everything that will happen: a value, made without touching anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from ..integrations.spec import KEY_VARIABLE, Integration, Refusal, RunFile, Surroundings, Target, Wiring
from .errors import LauncherError, WindowTooSmall

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What will be run.

    Of the `arguments` the `wiring_arguments` come before the user's own, or the agent's default ones. `environment` is
    added to the caller's after `unset` is taken away; `files` are ours, not the user's.
    """

    agent: str
    executable: str
    arguments: tuple[str, ...]
    wiring_arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    unset: tuple[str, ...]
    files: tuple[RunFile, ...]
    warnings: tuple[str, ...]
    model: str
    context_window: int | None


def make_plan(
    integration: Integration, target: Target, surroundings: Surroundings, *, force: bool = False, persist: bool = False
) -> LaunchPlan:
    """The plan of one launch; the same input gives the same plan.

    Raises WindowTooSmall unless `force`, LauncherError where the integration refuses, or can only be wired for good
    and that isn't what the user wants.
    """
    unknown = check_window(integration, target, force=force)
    arguments = surroundings.arguments or integration.default_arguments
    wiring = _wired(integration, target, replace(surroundings, arguments=arguments), persist=persist)
    environment = {
        **wiring.environment,
        **dict.fromkeys((KEY_VARIABLE, *integration.key_variables), target.api_key),
        **_proxy_bypass(target.url, surroundings.environ),
    }
    return LaunchPlan(
        agent=integration.name,
        executable=integration.executable,
        arguments=wiring.arguments,
        wiring_arguments=_before(wiring.arguments, arguments),
        environment=environment,
        unset=tuple(name for name in integration.unset if name in surroundings.environ and name not in environment),
        files=wiring.files,
        warnings=(*unknown, *wiring.warnings),
        model=target.model.name,
        context_window=target.context_window,
    )


def check_window(integration: Integration, target: Target, *, force: bool, command: str = "launch") -> tuple[str, ...]:
    """Refuse a window the agent cannot live in, with the `omlx` command that is not refused.

    Returns warnings where it cannot tell or is told not to refuse.
    """
    window, minimum = target.context_window, integration.minimum_context
    if window is None:
        return (f"the server does not say the window of {target.model.name}; {integration.title} will guess",)
    if window >= minimum:
        return ()
    smallest = min(target.tiers, key=lambda tier: tier.context_window or minimum)
    fact = f"{integration.title} needs a window of {minimum:,} tokens; {smallest.name} has {window:,}"
    if force:
        return (fact,)
    raise WindowTooSmall(f"{fact}.\n{_remedy(integration, target, command)}, or try it all the same with --force")


def _wired(integration: Integration, target: Target, surroundings: Surroundings, *, persist: bool) -> Wiring:
    if integration.wire is None:
        if not persist:
            raise LauncherError(
                f"{integration.title} cannot be wired for one run only; `omlx launch {integration.name} --persist` "
                f"shows what would change in its settings, and `omlx restore {integration.name}` undoes it"
            )
        return Wiring(surroundings.arguments)
    try:
        return integration.wire(target, surroundings)
    except Refusal as refusal:
        raise LauncherError(f"{integration.title} cannot be wired: {refusal}") from refusal


def _before(arguments: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments without the user's own at their end; all of them where an integration moved one of those."""
    ours = len(arguments) - len(own)
    return arguments[:ours] if arguments[ours:] == own else arguments


def child_environment(plan: LaunchPlan, environ: Mapping[str, str]) -> dict[str, str]:
    """The agent's whole environment."""
    return {name: value for name, value in environ.items() if name not in plan.unset} | dict(plan.environment)


def _remedy(integration: Integration, target: Target, command: str) -> str:
    large = [model for model in target.models if (model.context_window or 0) >= integration.minimum_context]
    if not large:
        return (
            "Serve a model with a longer window (`omlx inspect MODEL` says what one holds, `omlx pull REPO` gets one)"
        )
    best = max(large, key=lambda model: (model.loaded, -(model.size_bytes or 0)))
    return f"Use `omlx {command} {integration.name} --model {best.name}`"


def _proxy_bypass(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Keeps the agent's requests to the server off the user's proxy, where one is set."""
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    host = urlsplit(url).hostname or ""
    old = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    listed = [part.strip() for part in old.split(",") if part.strip()]
    if host in listed or "*" in listed:
        return {}
    bypass = ",".join([*listed, host])
    return {"NO_PROXY": bypass, "no_proxy": bypass}
