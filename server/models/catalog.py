"""Which models there are: folders found under --model-dir, checked before MLX ever sees them.

An id is an opaque name: requests are looked up in the catalog and never joined to a path.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ..errors import CorruptModel, ModelError, UnsupportedModel
from ..requests import Json
from .device_memory import DeviceMemory
from .folder import context_window, read_config, read_json_object
from .footprint import Footprint, footprint_of
from .part_folder import whole_name
from .safetensors_file import SafetensorsHeader, read_header

logger = logging.getLogger(__name__)

_WORKING_TOKENS = 8192
"""A loaded model is of use when it can answer requests of this length; longer ones have its part of what is left."""
_INDEX = "model.safetensors.index.json"


class ModelKind(StrEnum):
    LLM = "llm"
    VLM = "vlm"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    AUDIO = "audio"


ENCODERS = frozenset({ModelKind.EMBEDDING, ModelKind.RERANKER})
SERVED = ENCODERS | {ModelKind.LLM}
_ENCODER_NAME = re.compile(r"(?:^|[-_.])(?:(embed(?:ding)?s?)|rerank(?:er)?s?)(?:[-_.]|$)", re.IGNORECASE)
"""What a language model is called that was trained to encode: conversions keep nothing else that says so."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A usable model folder. `id` is its name, `org/name` where it lies two levels down.

    `architecture` is the config's `model_type`, `size_bytes` what the weights take, `context_window` counts
    tokens, `quantization` reads like "4bit" and is None for plain floats. `footprint` is what the model takes of
    memory in all; `declared_window` the window as the config has it, where memory made `context_window` shorter.
    """

    id: str
    path: Path
    kind: ModelKind
    architecture: str
    size_bytes: int
    context_window: int
    quantization: str | None = None
    footprint: Footprint | None = None
    declared_window: int | None = None

    def within(self, memory: DeviceMemory) -> ModelEntry:
        """The entry with its window cut to what the memory holds: what models may take of it, or all of it where even
        the weights take more. Where not even those fit it stays as it is: loading says so."""
        window = 0
        if self.footprint is not None:
            window = self.footprint.window_within(self.usable_bytes(memory), self.context_window)
        if window in (0, self.context_window):
            return self
        return replace(self, context_window=window, declared_window=self.context_window)

    @property
    def changed_at(self) -> float:
        """When its folder last changed, in seconds since the epoch; 0 where it is gone."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def usable_bytes(self, memory: DeviceMemory) -> int:
        """What the model may take of the memory where it is alone."""
        fits = self.footprint is None or self.footprint.window_within(memory.usable, self.context_window)
        return memory.usable if fits else memory.total

    @property
    def needed_bytes(self) -> int:
        """What has to be free for the model to be loaded and answer one request of some length."""
        return self.total_bytes(_WORKING_TOKENS)

    def total_bytes(self, num_tokens: int) -> int:
        """What the model takes with one sequence of so many tokens, or as long as its window if that is shorter."""
        if self.footprint is None:
            return self.size_bytes
        return self.footprint.total_bytes(min(self.context_window, num_tokens))


def discover(folders: Sequence[Path]) -> tuple[ModelEntry, ...]:
    """Every model in `folders`: a model folder itself, or one level or two (`org/name`) below.

    What cannot be used is logged with its reason and left out; of two models with one id the first stays.
    """
    found: dict[str, ModelEntry] = {}
    for root in folders:
        if not root.is_dir():
            logger.warning("Model folder %s does not exist any more; create it, or name another", root)
            continue
        for model_id, path in _candidates(root):
            try:
                entry = read_entry(path, model_id)
            except ModelError as error:
                logger.warning("Skipped model %r: %s", model_id, error)
                continue
            if found.setdefault(model_id, entry) is not entry:
                logger.warning("Skipped %s: the name %r is taken by %s", path, model_id, found[model_id].path)
    return tuple(sorted(found.values(), key=lambda entry: entry.id))


def model_folders(roots: Sequence[Path], *, quiet: bool = False) -> list[tuple[str, Path]]:
    """Every folder with a config.json under its id, usable or not, the first of an id first.

    Folders that cannot be looked into are logged, unless this is `quiet`: who looks again and again says it once.
    """
    found: dict[str, Path] = {}
    for root in roots:
        if root.is_dir():
            for model_id, path in _candidates(root, quiet=quiet):
                found.setdefault(model_id, path)
    return list(found.items())


def _candidates(root: Path, *, quiet: bool = False) -> Iterator[tuple[str, Path]]:
    if (root / "config.json").is_file():
        yield root.resolve().name, root
        return
    for folder in _subfolders(root, quiet=quiet):
        if (folder / "config.json").is_file():
            yield folder.name, folder
            continue
        for inner in _subfolders(folder, quiet=quiet):
            if (inner / "config.json").is_file():
                yield f"{folder.name}/{inner.name}", inner


def _subfolders(folder: Path, *, quiet: bool) -> list[Path]:
    """The visible folders in `folder`, sorted; imports under way have hidden names."""
    try:
        with os.scandir(folder) as entries:
            visible = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        if not quiet:
            logger.warning("Skipped %s: cannot be listed (%s)", folder, error.strerror or error)
        return []
    names = [name for name in visible if (folder / name).is_dir()]  # a link to itself is none
    for name in names:
        if not (name.isprintable() or quiet):
            logger.warning("Skipped %r in %s: its name has characters that cannot be printed; rename it", name, folder)
    return [folder / name for name in names if name.isprintable()]


def read_entry(path: Path, model_id: str) -> ModelEntry:
    """The entry of one model folder. Raises `ModelError` with the reason it cannot be used."""
    config = read_config(path)
    if "model_file" in config:
        raise UnsupportedModel(f"{path}: wants its own code run ({config['model_file']!r}), which omlx never does")
    headers = weight_headers(path)
    return ModelEntry(
        id=model_id,
        path=path,
        kind=_kind(path, config),
        architecture=str(config["model_type"]),
        size_bytes=sum(header.size_bytes for header in headers),
        context_window=context_window(config),
        quantization=_quantization(config),
        footprint=footprint_of(config, headers),
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files MLX will load, every shard that the index names among them."""
    files = sorted(folder.glob("model*.safetensors"))
    weight_map = read_json_object(folder / _INDEX).get("weight_map", {})
    if not isinstance(weight_map, dict):
        raise CorruptModel(f"{folder / _INDEX}: its weight_map is not an object")
    missing = sorted({str(name) for name in weight_map.values()} - {file.name for file in files})
    if missing:
        raise CorruptModel(
            f"{folder}: {len(missing)} weight files are missing, {missing[0]} first; download them again"
        )
    if not files:
        raise CorruptModel(f"{folder}: no model*.safetensors in it")
    return files


def weight_headers(folder: Path) -> list[SafetensorsHeader]:
    """The headers of `weight_files`. Raises `CorruptModel`, `UnsupportedModel`."""
    is_part = whole_name(folder) is not None
    return [read_header(file, may_lack_data=is_part) for file in weight_files(folder)]


def _kind(path: Path, config: Mapping[str, Json]) -> ModelKind:
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith("ForSequenceClassification"):
        return ModelKind.RERANKER
    if (path / "modules.json").is_file() or name.endswith(("BertModel", "RobertaModel", "ForTextEncoding")):
        return ModelKind.EMBEDDING
    if "vision_config" in config:
        return ModelKind.VLM
    if "Whisper" in name or ("audio_config" in config and "text_config" not in config):
        return ModelKind.AUDIO
    named = _ENCODER_NAME.search(path.resolve().name)
    if named is not None:
        return ModelKind.EMBEDDING if named[1] else ModelKind.RERANKER
    return ModelKind.LLM


def _quantization(config: Mapping[str, Json]) -> str | None:
    found = config.get("quantization") or config.get("quantization_config")
    if not isinstance(found, dict):
        return None
    mode, bits = found.get("mode", "affine"), found.get("bits")
    if mode != "affine":
        return str(mode)
    return f"{bits}bit" if isinstance(bits, int) else str(found.get("quant_method", "unknown"))
