"""What the routes need of the rest of the server, made once by `create_app` and passed to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ..engine.generation import Generator
from ..engine.ledger import RequestLedger
from ..engine.model_text import ModelText
from ..engine.openings import Openings
from ..engine.process import EngineProcess
from ..metrics import Metrics
from ..models.pool import ModelPool
from ..settings.model_store import ModelSettingsStore


@dataclass(frozen=True, slots=True)
class Context:
    """`find_model` looks for a model that is asked for and not known, and raises `ModelError` with the reason that one
    which is there cannot be used. `text_of` gives a model's text side by id; `cache_folder` is where prompt prefixes
    outlive the server; `instance_id` tells one run of it from the next."""

    pool: ModelPool[EngineProcess]
    model_settings: ModelSettingsStore
    find_model: Callable[[str], Awaitable[None]]
    text_of: Callable[[str], ModelText]
    generator: Generator
    openings: Openings
    metrics: Metrics
    ledger: RequestLedger
    cache_folder: Path
    instance_id: str
    heartbeat_seconds: float
    asks_for_key: bool
