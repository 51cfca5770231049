"""mlx-lm's model files without the rest of mlx-lm.

`import mlx_lm` brings its converter, its generator and its tokenizers, and with them transformers and the model
hub's client: two thirds of a second to a few seconds of importing, and a hundred megabytes. An engine process needs
the model files and the loader of weights, so it makes the package stand there without running its `__init__`.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

_PACKAGE = "mlx_lm"
_TOKENIZERS = f"{_PACKAGE}.tokenizer_utils"
_HUB = "huggingface_hub"


class _Unavailable:
    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("the engine process runs without mlx-lm's tokenizers and downloads")


class _Absent(ModuleType):
    """Stands for a module that mlx_lm.utils takes names from and that nothing here calls."""

    def __getattr__(self, name: str) -> type[_Unavailable]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unavailable


def use_lean_mlx_lm() -> None:
    """From now on `mlx_lm.models` and `mlx_lm.utils` import on their own. For a process that serves one model:
    nothing else of mlx-lm is to be used in it. Does nothing where mlx-lm is imported already, or is not there."""
    spec = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        return
    package = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[_PACKAGE] = package
    for name in (_TOKENIZERS, _HUB):
        sys.modules.setdefault(name, _Absent(name))


def use_hub_client() -> None:
    """Have the model hub's client imported after all, by whoever needs it from now on. mlx-lm goes without it."""
    if isinstance(sys.modules.get(_HUB), _Absent):
        del sys.modules[_HUB]
