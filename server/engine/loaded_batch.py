"""From a model's folder to a batch that runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from ..cache.codec import BlockPayload, CacheCodec
from ..cache.disk_tier import DiskLimits, DiskTier
from ..cache.fingerprint import model_fingerprint
from ..cache.prefix_cache import PrefixCache
from ..errors import UnsupportedModel
from ..models.catalog import weight_headers
from ..models.folder import read_config, text_config
from ..models.footprint import Footprint, footprint_of
from ..models.loading import LoadedModel, load_model
from ..models.part_folder import whole_name
from ..models.sharding import outline_part
from ..models.shares import held_part
from ..models.split import Split
from .batch import BatchInfo
from .decode_layout import Forward
from .deferred_layout import DeferredLayout
from .grammar import GrammarCompiler
from .mlx_batch import MlxBatch
from .mlx_memory import bound_memory
from .model_drafter import ModelDrafter
from .mtp_drafter import MtpDrafter
from .ngram_drafter import NgramDrafter
from .ranks.group import Alone, MlxRanks, Ranks
from .recorder import Recorder
from .speculation import Drafter
from .taking_back import CANNOT_TAKE_BACK, can_take_back

_SHARE_UNDER_WAY = 0.125
"""Of what prefixes may hold in memory, for those on their way to the disk, and as much for those read ahead."""
_MOST_TOKENS = (1 << 31) - 1
"""That ranks can tell one another."""
_GPU_CHUNK, _CPU_CHUNK = 2048, 256
"""Tokens of a prompt at once, at most. MLX's attention on a CPU works out what it masks, too, so that one piece of
2,000 tokens takes twice as long as eight of 250."""


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Where prefixes outlive the process. One folder serves all models."""

    folder: Path
    limits: DiskLimits


def load_batch(
    path: Path,
    disk_cache: DiskCache | None = None,
    prefix_bytes: int | None = None,
    ranks: MlxRanks | None = None,
    split: Split = Split.AUTO,
    draft_model: Path | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> MlxBatch:
    """Load the model and bound what MLX may hold on to.

    `prefix_bytes` bounds the prefixes kept in memory, by default to a share of what the weights leave. With `ranks`,
    only this rank's part of the model is loaded, divided as `split` says. `draft_model` is the folder of a smaller one
    that drafts. `go_on` is called for every piece of the weights, or later of a prefix, that has been read from the
    disk. Raises `ModelError`.
    """
    has_gpu = mx.default_device().type == mx.gpu
    loaded = load_model(path, ranks and (lambda folder: outline_part(folder, ranks.group, split)[0]), go_on)
    model = loaded.model
    memory, budget = bound_memory(loaded.weight_bytes)
    vocabulary = model(mx.array([[0]]), cache=make_prompt_cache(model)).shape[-1]
    drafters: list[Drafter] = [NgramDrafter()]
    if draft_model is not None:
        if not can_take_back(make_prompt_cache(model)):
            raise UnsupportedModel(
                f"{draft_model.name} cannot draft for {path.name}: {CANNOT_TAKE_BACK}; start it without a draft model"
            )
        drafters.append(ModelDrafter.load(draft_model, path))
    run: Forward = model
    if loaded.mtp is not None:
        run, drafters = Recorder(loaded.mtp), [*drafters, MtpDrafter(loaded.mtp)]
    footprint = _footprint(path, loaded, ranks, draft_model)
    large_row_tokens = agreed_large_row(budget.large_row, footprint, ranks or Alone())
    layout = DeferredLayout(run, lambda: make_prompt_cache(model), large_row_tokens)
    # Ranks decide together, which they cannot when they are idle. A GPU is half as fast on a lone row outside a layout.
    while (ranks is not None or has_gpu) and layout.settle():
        go_on()
    codec = CacheCodec(lambda: make_prompt_cache(model))
    device = str(mx.default_device())
    parts = [] if ranks is None else [f"{ranks.size} ranks", split]  # the same on all, so that a block's name is too
    identity = model_fingerprint(path, version("mlx"), version("mlx-lm"), device, *parts, whole=whole_name(path))
    max_prefix_bytes = budget.prefix_cache if prefix_bytes is None else prefix_bytes
    lower: DiskTier[BlockPayload] | None = None
    if disk_cache is not None:
        in_memory = min(disk_cache.limits.max_memory_bytes, int(max_prefix_bytes * _SHARE_UNDER_WAY))
        limits = replace(disk_cache.limits, max_memory_bytes=in_memory)
        own_folder = identity if ranks is None else f"rank{ranks.rank}of{ranks.size}/{identity}"
        lower = DiskTier(disk_cache.folder, own_folder, codec, limits, go_on=go_on)
    info = BatchInfo(
        device=device,
        weight_bytes=loaded.weight_bytes,
        checkpointed=not codec.divisible,
        max_chunk=_GPU_CHUNK if has_gpu else _CPU_CHUNK,
        footprint=footprint,
        memory_bytes=agreed_memory(memory.usable, loaded.weight_bytes, ranks or Alone()),
        large_row_tokens=large_row_tokens if layout.has_slots else 0,
    )
    prefix_cache = PrefixCache(identity, max_prefix_bytes, lower)
    grammars = GrammarCompiler(path / "tokenizer.json", vocabulary)
    return MlxBatch(
        run,
        info,
        layout,
        codec,
        prefix_cache,
        vocabulary,
        grammars,
        runs_ahead=has_gpu,
        drafters=drafters,
        ranks=ranks,
    )


def agreed_large_row(num_bytes: int, footprint: Footprint, ranks: Ranks) -> int:
    """The tokens of a row of so many bytes, on the rank where they are fewest: what is large, and so the order that a
    batch has its rows in, must not depend on a rank's memory or its part of the model."""
    return min(ranks.gather(min(num_bytes // max(1, footprint.token_bytes), _MOST_TOKENS)))


def agreed_memory(usable: int, weight_bytes: int, ranks: Ranks) -> int:
    """What rank 0 may plan with, in bytes: as much beside its weights as the rank has that has least."""
    free = (usable - weight_bytes) >> 20
    least = min(ranks.gather(free))
    return usable if least >= free else weight_bytes + (least << 20)


def _footprint(path: Path, loaded: LoadedModel, ranks: MlxRanks | None, draft_model: Path | None) -> Footprint:
    """What sequences take here: of the whole model and the one that drafts for it, or of this rank's part."""
    config = read_config(path)
    whole = replace(footprint_of(config, weight_headers(path)), weight_bytes=loaded.weight_bytes)
    if draft_model is not None:
        return whole.beside(footprint_of(read_config(draft_model), weight_headers(draft_model)))
    if ranks is None:
        return whole
    model: Any = loaded.model
    all_layers = text_config(config).get("num_hidden_layers")
    num_layers = len(model.layers)
    held = held_part(config, ranks.size, num_layers, all_layers if isinstance(all_layers, int) else num_layers)
    return whole.part(loaded.weight_bytes, held)
