"""The embedded model with its first layers only: real in everything but its words, and fast enough for many rounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx


def cut(model: Path, layers: int, folder: Path) -> Path:
    """Write the model of so many layers below `folder`; its own folder."""
    made = folder / f"{model.name}-{layers}-layers"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(model, made, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    config = json.loads((model / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    weights: dict[str, mx.array] = {}
    for file in sorted(model.glob("*.safetensors")):
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        weights |= {name: array for name, array in loaded.items() if _layer(name) < layers}
    mx.save_safetensors(str(made / "model.safetensors"), weights, {"format": "mlx"})
    return made


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else -1
