"""`convert`: a model folder becomes a smaller one, packed in fewer bits.

Weights are read, packed and written a shard at a time. What is stopped goes on from the last whole shard when it is
started again, and the folder appears when every shard was read back and the whole model found in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten

from ..errors import CorruptModel, ModelError
from ..requests import Json
from .catalog import weight_files
from .folder import read_config
from .loading import num_bytes, outline
from .mtp import COUNTS
from .placing import put_in_place
from .quantizing import Bits, Packing, packings, quantize
from .safetensors_file import read_header

_SHARD_BYTES = 2 << 30
_SPARE_BYTES = 256 << 20
_TEXT_FILE = re.compile(r"(?!.*\.index\.json$)(?!config\.json$)[^.].*\.(json|jinja|txt|model|tiktoken|md)")
_LARGEST_TEXT = 128 << 20

Weights = dict[str, mx.array]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What to make of the folder `source`. Without `keep_mtp` an MTP layer is left out."""

    source: Path
    target: Path
    bits: Bits = Bits.FOUR
    keep_mtp: bool = False
    shard_bytes: int = _SHARD_BYTES


@dataclass(frozen=True, slots=True)
class Converted:
    """`has_mtp`: an MTP layer is in it; `left_mtp`: there was one that is not."""

    path: Path
    size_bytes: int
    has_mtp: bool
    left_mtp: bool


def convert(conversion: Conversion, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Converted:
    """Write `conversion.target`. `progress` is called with the bytes written and in all.

    Raises `CorruptModel` and `UnsupportedModel` for a source that cannot be read, `ModelError` for one that would stay
    as it is, and for a target or a disk that does not do.
    """
    if conversion.target.exists():
        raise ModelError(f"{conversion.target} is there already; remove it, or choose another --out")
    config: dict[str, Any] = read_config(conversion.source)
    model = outline(conversion.source)
    had_mtp = bool(getattr(model, "mtp", None))
    if had_mtp and not conversion.keep_mtp:
        model.mtp = []
    before = packings(model)
    config["quantization"] = config["quantization_config"] = quantize(model, conversion.bits)
    if packings(model) == before:
        raise ModelError(_nothing_to_pack(conversion, before.values()))
    if not getattr(model, "mtp", None):
        _declare_no_mtp(config)
    weights: Weights = dict(tree_flatten(model.parameters()))
    del model
    try:
        with _work_folder(conversion.target) as work:
            _write(conversion, work, weights, config, progress)
            _copy_texts(conversion.source, work)
            size = _check(work)
            put_in_place(work, conversion.target)
    except OSError as error:
        raise ModelError(f"{conversion.target} cannot be written: {error.strerror or error}") from error
    kept = had_mtp and conversion.keep_mtp
    return Converted(conversion.target, size, kept, had_mtp and not kept)


def _nothing_to_pack(conversion: Conversion, packed: Collection[Packing]) -> str:
    if not packed:
        return f"{conversion.source} has no layer that can be packed in groups of {conversion.bits.packing.group_size}"
    kinds = ", ".join(sorted({packing.name for packing in packed}))
    return (
        f"{conversion.source} is packed already ({kinds}), and --bits {conversion.bits} would change nothing in it: "
        "more bits bring back nothing that was lost. Convert the model that it was made from"
    )


def _declare_no_mtp(config: dict[str, Any]) -> None:
    """A config that still declared the layer would say what is not so."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part |= {key: 0 for key in COUNTS if part.get(key)}


def _write(
    conversion: Conversion,
    work: Path,
    weights: Weights,
    config: Mapping[str, Json],
    progress: Callable[[int, int], None],
) -> None:
    """The shards that are not there yet, the index and the config."""
    shards = _shards(weights, conversion.shard_bytes)
    total = sum(array.nbytes for array in weights.values())
    _begin(work, conversion, shards, config)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    missing = sum(
        weights[tensor].nbytes
        for name, tensors in zip(names, shards, strict=True)
        for tensor in tensors
        if not (work / name).exists()
    )
    if missing + _SPARE_BYTES > shutil.disk_usage(work).free:
        raise ModelError(
            f"{work.parent} has no room for {missing >> 20} MiB of weights; make some, or name another --out"
        )
    done, index = 0, dict[str, str]()
    for name, tensors in zip(names, shards, strict=True):
        index |= dict.fromkeys(tensors, name)
        done += sum(weights[tensor].nbytes for tensor in tensors)
        _write_shard(work / name, {tensor: weights.pop(tensor) for tensor in tensors})
        progress(done, total)
    _write_json(work / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
    _write_json(work / "config.json", config)


def _shards(weights: Weights, most: int) -> list[list[str]]:
    """Names in the model's order, so many to a shard that it is no larger than `most`, or one alone."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, array in weights.items():
        if shards[-1] and size + array.nbytes > most:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += array.nbytes
    return shards


def _write_shard(path: Path, arrays: Weights) -> None:
    """Compute the arrays, write them, and read them back. A shard that is there was read back before."""
    if path.exists():
        return
    for array in arrays.values():
        mx.eval(array)  # one by one: what an array is computed from is let go before the next
    part = path.with_name(f"part-{path.name}")
    mx.save_safetensors(str(part), arrays, {"format": "mlx"})
    read_header(part)
    found: Any = mx.load(str(part))
    for name, array in arrays.items():
        if not mx.array_equal(array.view(mx.uint8), found[name].view(mx.uint8)):
            raise ModelError(f"{name} does not read back from {part} as it was written; the disk may be failing")
        if mx.issubdtype(array.dtype, mx.floating) and not mx.all(mx.isfinite(array)):
            raise CorruptModel(f"{name} holds what is no finite number; download the model again")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    mx.clear_cache()


def _begin(work: Path, conversion: Conversion, shards: list[list[str]], config: Mapping[str, Json]) -> None:
    """Make the folder this conversion's own: shards of another one, or of other weights, go."""
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weight_files(conversion.source)]
    plan = msgspec.json.encode([str(conversion.source.resolve()), stamps, shards, config])
    stamp = work / ".plan"
    digest = hashlib.sha256(plan).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        for file in work.iterdir():
            file.unlink()
        stamp.write_text(digest)


def _check(work: Path) -> int:
    """Whether the folder holds a whole model; the bytes of its weights. Nothing is computed."""
    (work / ".plan").unlink()
    return num_bytes(outline(work))


def _copy_texts(source: Path, work: Path) -> None:
    for file in source.iterdir():
        if _TEXT_FILE.fullmatch(file.name) and file.is_file() and file.stat().st_size <= _LARGEST_TEXT:
            shutil.copyfile(file, work / file.name)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """The folder where the shards lie until all are there; ours alone. Raises `ModelError` while another has it."""
    work = target.parent / f".{target.name}.converting"
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(f"{target} is being converted by another process; wait for it") from None
        yield work
    finally:
        os.close(descriptor)
