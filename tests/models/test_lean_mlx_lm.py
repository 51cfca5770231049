"""The engine process has mlx-lm's models without mlx-lm's tokenizers. Tried in a process of its own: it is for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx

from omlx.server.models.importing import ImportType, import_gguf
from omlx.server.models.loading import load_model

from .small_gguf import SmallLlama

_EVERY_MODEL = """
import importlib, json, pkgutil, sys
from omlx.server.models.lean_mlx_lm import use_lean_mlx_lm
use_lean_mlx_lm()
import mlx_lm.models, mlx_lm.utils
failed = {}
for module in pkgutil.iter_modules(mlx_lm.models.__path__):
    try:
        importlib.import_module(f"mlx_lm.models.{module.name}")
    except BaseException as error:
        failed[module.name] = type(error).__name__
heavy = [name for name in ("transformers", "torch", "jinja2") if name in sys.modules]
print(json.dumps([failed, heavy]))
"""
_LOGITS = """
import sys
from pathlib import Path
from omlx.server.models.lean_mlx_lm import use_lean_mlx_lm
use_lean_mlx_lm()
import mlx.core as mx
from omlx.server.models.loading import load_model
logits = load_model(Path(sys.argv[1])).model(mx.array([[3, 4, 5]]))
assert "transformers" not in sys.modules
print(logits[0, -1].tolist())
"""


def run(code: str, *arguments: str) -> list:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_model_file_of_mlx_lm_imports_without_transformers():
    failed, heavy = run(_EVERY_MODEL)
    assert failed == {"olmo": "SystemExit"}  # it wants a package of its own, and ends the process without
    assert heavy == []


def test_a_model_is_the_same_with_and_without_the_rest_of_mlx_lm(tmp_path: Path):
    SmallLlama().write(tmp_path / "small.gguf")
    folder = import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", dtype=ImportType.FLOAT32)
    expected = load_model(folder).model(mx.array([[3, 4, 5]]))[0, -1].tolist()
    assert run(_LOGITS, str(folder)) == expected
