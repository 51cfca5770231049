"""The weight files that one rank of a group needs, found from its part of the model and fetched from the hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .catalog import weight_files
from .downloading import DownloadProgress
from .hub import Hub, fetch_weights
from .lean_mlx_lm import use_hub_client
from .part_folder import lacks_data, whole_name
from .safetensors_file import read_header
from .sharding import Group, outline_part
from .split import Split

logger = logging.getLogger(__name__)

_IN_LAYER = re.compile(r"(?:language_model\.|model\.)*layers\.(\d+)\..+")
_UNDER_MTP = re.compile(r"(?:language_model\.|model\.)*mtp\..+")


def fetch_part(folder: Path, group: Group, split: Split, hub: Callable[[], Hub]) -> None:
    """Download what this rank needs and the folder lacks; nothing to do for a folder with a whole model.

    What is there stays, also of a download that was stopped. Raises `ModelError`.
    """
    if whole_name(folder) is None:
        return
    needed = needed_files(folder, group, split)
    missing = [file.name for file in needed if lacks_data(file)]
    if missing:
        logger.info("rank %d downloads %d of %d weight files", group.rank(), len(missing), len(weight_files(folder)))
        use_hub_client()
        fetch_weights(folder, missing, hub(), report=_by_tenths())


def needed_files(folder: Path, group: Group, split: Split) -> list[Path]:
    """The weight files that hold anything of this rank's part. Only headers are read. Raises `ModelError`."""
    model: Any
    model, taken = outline_part(folder, group, split)
    files = weight_files(folder)
    if taken is not Split.PIPELINE:
        return files
    kept = {index for index, layer in enumerate(model.model.layers) if layer is not None}
    return [file for file in files if any(_is_needed(tensor.name, kept) for tensor in _tensors(file))]


def _tensors(file: Path) -> Any:
    return read_header(file, may_lack_data=True).tensors


def _is_needed(name: str, kept: set[int]) -> bool:
    """Whether a rank of a pipeline that keeps these layers reads the tensor; none has an MTP layer."""
    in_layer = _IN_LAYER.fullmatch(name)
    return int(in_layer[1]) in kept if in_layer else not _UNDER_MTP.fullmatch(name)


def _by_tenths() -> Callable[[DownloadProgress], None]:
    """Puts a line into the log for every tenth of the bytes."""
    told = 0

    def report(progress: DownloadProgress) -> None:
        nonlocal told
        tenths = 10 * progress.done_bytes // max(1, progress.total_bytes)
        if tenths > told:
            told = tenths
            logger.info("downloaded %d%% of %.1f GB", 10 * tenths, progress.total_bytes / 1e9)

    return report
