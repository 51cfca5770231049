"""Which model the agent gets: the user's word, else the only one, else the last one, else a question."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..integrations.spec import Integration, Model
from .errors import ModelError

Picker = Callable[[Sequence[Model]], Model]

_MEMORY_SHARE = 0.75
"""The server gives weights no more than this."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The models the user named; None where they left it to us."""

    model: str | None = None
    opus: str | None = None
    sonnet: str | None = None
    haiku: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Every role has a model; roles nobody named have the main one."""

    model: Model
    opus: Model
    sonnet: Model
    haiku: Model


def choose(models: Sequence[Model], wanted: Wanted, last_used: str | None, pick: Picker | None) -> Selection:
    """`pick` asks the user, and is None where there is no terminal.

    Raises ModelError for an unknown name, a server without models, and a choice that nobody is there to make.
    """
    if not models:
        raise ModelError(
            "the server has no models; add one with `omlx pull REPO` or `omlx import FILE.gguf`, or serve a folder of "
            "yours with `omlx serve --model-dir DIR`"
        )
    main = _main(models, wanted.model, last_used, pick)

    def tier(name: str | None) -> Model:
        return main if name is None else named(models, name)

    return Selection(main, opus=tier(wanted.opus), sonnet=tier(wanted.sonnet), haiku=tier(wanted.haiku))


def named(models: Sequence[Model], name: str) -> Model:
    """The model with this name or alias. Raises ModelError with the names there are."""
    found = {model.alias: model for model in models if model.alias} | {model.name: model for model in models}
    if name in found:
        return found[name]
    close = difflib.get_close_matches(name, found, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ModelError(f"the server has no model {name!r}.{hint} It has: {', '.join(map(_with_alias, models))}")


def size_text(num_bytes: float) -> str:
    """Bytes as a person reads them, and as the server's own commands print them: 1.2 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{int(num_bytes)} B"


def fit(model: Model, integration: Integration, memory_bytes: int | None) -> str:
    """Why this model would not do for the agent or this machine; empty where nothing speaks against it."""
    if model.context_window is not None and model.context_window < integration.minimum_context:
        return f"window too small for {integration.title} ({integration.minimum_context:,})"
    if memory_bytes is not None and (model.size_bytes or 0) > memory_bytes * _MEMORY_SHARE:
        return f"larger than this machine's memory allows ({size_text(memory_bytes)})"
    return ""


def described(model: Model) -> str:
    """One line for a list: name, size, window."""
    size = "" if model.size_bytes is None else size_text(model.size_bytes)
    window = "window unknown" if model.context_window is None else f"{model.context_window:,} tokens"
    return "  ".join(part for part in (_with_alias(model), size, window, "loaded" if model.loaded else "") if part)


def _with_alias(model: Model) -> str:
    return f"{model.name} ({model.alias})" if model.alias else model.name


def _main(models: Sequence[Model], name: str | None, last_used: str | None, pick: Picker | None) -> Model:
    if name is not None:
        return named(models, name)
    if len(models) == 1:
        return models[0]
    for model in models:
        if model.name == last_used:
            return model
    if pick is not None:
        return pick(models)
    listed = "".join(f"\n  {described(model)}" for model in models)
    raise ModelError(f"the server has {len(models)} models; choose one with --model:{listed}")
