"""The embedded model as a folder that both omlx and mlx-lm can serve, made by `omlx import`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from omlx.server.models.embedded import MODEL_NAME, find_embedded_gguf

_ROOT = Path(__file__).parents[2]
OMLX = Path(sys.executable).parent / "omlx"


class EmbeddedModelMissing(Exception):
    """The package that holds the model is not installed."""


def import_embedded_model(omlx_home: Path = _ROOT / ".cache" / "embedded") -> Path:
    """Import the model anew into that home; its folder. Raises `EmbeddedModelMissing`."""
    gguf = find_embedded_gguf()
    if gguf is None:
        raise EmbeddedModelMissing("the embedded model is not installed: make setup")
    environment = {**os.environ, "OMLX_HOME": str(omlx_home)}
    done = subprocess.run(
        [OMLX, "import", str(gguf), "--force"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"omlx import failed:\n{done.stdout}{done.stderr}")
    return omlx_home / "models" / MODEL_NAME
