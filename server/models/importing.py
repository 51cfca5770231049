"""`import_gguf`: a GGUF of the Llama family becomes an MLX model folder.

Everything that can be refused is refused before a byte is written; the folder appears whole or not at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from ..errors import ModelError
from ..requests import Json
from ..terminal import size_text
from .gguf import GgufFile, read_gguf
from .gguf_llama import convert_config, plan_tensors, read_shape
from .gguf_tokenizer import convert_tokenizer
from .gguf_weights import FLOAT_NAMES, WeightPlan, plan_weights, write_weights
from .placing import checked_id, make_models_folder, new_folder, write_synced
from .quantizing import has_only_a_cpu

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes of weights written so far and in all."""

_QUANT_SUFFIX = re.compile(r"[.-](i1-)?(I?Q\d\w*|TQ\d\w*|MXFP4\w*|B?F16|F32)$", re.ASCII | re.IGNORECASE)
_SPARE_BYTES = 64 * 1024 * 1024


class ImportType(StrEnum):
    """How the weights are stored.

    AUTO is FLOAT32 where MLX has only a CPU, by far its fastest type there, and KEEP elsewhere. KEEP leaves
    Q4_0, Q4_1 and Q8_0 as they are and stores other types as 16-bit floats. BITS4 and BITS8 quantize anew.
    """

    AUTO = "auto"
    KEEP = "keep"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    BITS4 = "4bit"
    BITS8 = "8bit"


def import_gguf(
    path: Path,
    *,
    models_folder: Path,
    name: str | None = None,
    dtype: ImportType = ImportType.AUTO,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the model in `path` to `models_folder/name` and return that folder.

    What the file's header tells is refused before a byte is written; a weight that its type cannot hold is
    met on the way, and what was written by then goes away again.
    `name` defaults to the file's, without its quantization. `force` replaces a model of that name. Raises
    `UnsupportedModel` by name, `CorruptModel` with the fact, `ModelError` for a name or disk that does not do.
    """
    target = models_folder / checked_id(name if name is not None else default_name(path))
    if target.exists() and not force:
        raise ModelError(f"{target} exists; give --force to replace it, or another --name")
    if target.exists() and not (target / "config.json").is_file():
        raise ModelError(f"{target} is there and no model folder; choose another --name")
    plan, documents = _plan(read_gguf(path), resolve_type(dtype))
    make_models_folder(models_folder)
    try:
        with new_folder(target) as work:
            _check_space(work, plan.size_bytes)
            write_weights(plan, work / "model.safetensors", progress or _ignore)
            for file_name, document in documents.items():
                write_synced(work / file_name, msgspec.json.format(msgspec.json.encode(document), indent=2))
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def default_name(path: Path) -> str:
    """A model name made of a file's: `SmolLM2-135M-Instruct.Q4_1.gguf` gives `SmolLM2-135M-Instruct`."""
    stem = _QUANT_SUFFIX.sub("", path.name.removesuffix(".gguf"))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem, flags=re.ASCII).strip(".-_")


def resolve_type(dtype: ImportType) -> ImportType:
    """What AUTO means on this machine."""
    if dtype is not ImportType.AUTO:
        return dtype
    return ImportType.FLOAT32 if has_only_a_cpu() else ImportType.KEEP


def _plan(file: GgufFile, dtype: ImportType) -> tuple[WeightPlan, dict[str, Mapping[str, Json]]]:
    """What will be written: the weights, and the folder's other files by name."""
    shape = read_shape(file)
    tensors = plan_tensors(file, shape)
    tokenizer = convert_tokenizer(file, shape.context_length, shape.vocabulary)
    plan = plan_weights(file, tensors, dtype.value)
    ids: dict[str, Json] = {"eos_token_id": list(tokenizer.stop_token_ids)}
    if tokenizer.bos_token_id is not None:
        ids["bos_token_id"] = tokenizer.bos_token_id
    config = convert_config(file, shape, frozenset(tensor.name for tensor in tensors))
    config |= {"torch_dtype": FLOAT_NAMES[plan.float_type], **ids}
    if plan.quantization is not None:
        config["quantization"] = plan.quantization
    return plan, {
        "config.json": config,
        "generation_config.json": ids,
        "tokenizer.json": tokenizer.tokenizer,
        "tokenizer_config.json": tokenizer.tokenizer_config,
    }


def _check_space(work: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(work).free
    if size_bytes + _SPARE_BYTES > free:
        raise ModelError(
            f"{work.parent} has {size_text(free)} free, the model takes {size_text(size_bytes)}; make room"
        )


def _ignore(done: int, total: int) -> None:
    del done, total
