"""`python -m tests.bench.gpu_deepseek_v4`: a mid-size DeepSeek V4 with random bf16 weights, served on one GPU.

Every feature of the model is on. Beside the figures stands the floor: what the bytes that must be moved, or the
products that must be computed, take at rates measured in the same call.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map_with_path

from omlx.server.models.architectures.deepseek_v4 import Model, ModelArgs

from . import gpu
from .gpu_model import save_model, write_text_files
from .servers import Contender

_STREAMS, _PREFILLS = (1, 8, 32), (4096, 16384, 65536)
_WINDOW = 131072
_LAYERS = 16
SHAPE: dict[str, Any] = {
    "model_type": "deepseek_v4",
    "architectures": ["DeepseekV4ForCausalLM"],
    "vocab_size": 129280,
    "hidden_size": 2048,
    "moe_intermediate_size": 1024,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 32,
    "n_routed_experts": 64,
    "compress_ratios": [0, 0, *(4 if layer % 2 else 128 for layer in range(_LAYERS - 2))],
    "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536},
    "max_position_embeddings": _WINDOW,
    "torch_dtype": "bfloat16",
}
"""What it leaves out, heads of 512 channels and the indexer's sizes among it, is the Flash model's."""
TINY: dict[str, Any] = SHAPE | {
    "vocab_size": 1024,
    "hidden_size": 64,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "head_dim": 32,
    "qk_rope_head_dim": 16,
    "q_lora_rank": 32,
    "o_groups": 2,
    "o_lora_rank": 16,
    "index_n_heads": 8,
    "index_head_dim": 16,
    "index_topk": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "compress_ratios": [0, 4, 128, 4],
    "torch_dtype": "float32",
}
_KEPT_IN_FLOAT32 = ("_hc.", "hc_head.", "attn_sink", "e_score_correction_bias")
"""Of the published checkpoint, whatever the rest is in."""


def build(folder: Path, tiny: bool = False) -> None:
    """Write the model folder. A letter of a prompt is a token, and so is any word of an answer."""
    folder.mkdir(parents=True)
    config = TINY if tiny else SHAPE
    write_text_files(folder, config)
    save_model(random_model(config, mx.float32 if tiny else mx.bfloat16), folder)


def random_model(config: dict[str, Any], dtype: mx.Dtype) -> nn.Module:
    mx.random.seed(0)
    args = ModelArgs.from_dict(config)
    model = Model(args)

    def draw(path: str, parameter: mx.array) -> mx.array:
        if path.endswith("tid2eid"):
            # MLX 0.32.4 cannot sort so many rows at once on CUDA.
            scores = np.random.default_rng(0).random((parameter.shape[0], args.n_routed_experts), np.float32)
            return mx.array(np.argsort(scores, axis=-1)[:, : parameter.shape[1]].astype(np.int32))
        if any(part in path for part in _KEPT_IN_FLOAT32):
            return mx.random.normal(parameter.shape) * parameter.shape[-1] ** -0.5
        if parameter.ndim == 1:
            return mx.ones(parameter.shape, dtype)
        return (mx.random.normal(parameter.shape) * parameter.shape[-1] ** -0.5).astype(dtype)

    model.update(tree_map_with_path(draw, model.parameters()))
    return model


def floor(weights: int, experts: int, bandwidth: float, operations: float) -> dict[str, float]:
    """The best that any server could do. `experts` are the routed experts' part of the bytes: a step reads those
    that one of its rows chose, a prompt multiplies with those that each token chose."""
    share = SHAPE.get("num_experts_per_tok", 6) / SHAPE["n_routed_experts"]
    table = {}
    for count in _STREAMS:
        read = weights - experts + experts * (1 - (1 - share) ** count)
        table[f"{count} streams: tokens/s, all running"] = count * bandwidth / read
    for count in _PREFILLS:
        table[f"prefill {count}, tokens/s"] = operations / (weights - experts + experts * share)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu_deepseek_v4", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/omlx-gpu-v4"), help="for the model, cache and log")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short prompts: tries the script itself")
    parser.add_argument("--build-only", action="store_true", help="write the model and stop")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    model = options.folder / "models" / "random-deepseek-v4"
    if not model.exists():
        build(model, options.tiny)
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    print(f"{model}: {weights / 1e9:.2f} GB", flush=True)
    if options.build_only:
        return 0
    bandwidth, operations = (1.0, 1.0) if options.tiny else gpu.rates()
    mx.clear_cache()
    print(f"copy {bandwidth / 1e9:.0f} GB/s, bf16 {operations / 1e12:.0f} Tflop/s")
    figures = measure(model, options.folder, options.tiny)
    if options.json:
        options.json.write_text(json.dumps(figures.of, indent=1))
    experts = _LAYERS * SHAPE["n_routed_experts"] * 3 * SHAPE["hidden_size"] * SHAPE["moe_intermediate_size"] * 2
    floors = {} if options.tiny else {"floor": floor(weights, experts, bandwidth, operations)}
    print(gpu.report({"omlx": figures}, floors))
    return 0


def measure(model: Path, folder: Path, tiny: bool) -> gpu.Figures:
    figures = gpu.Figures()
    command = (sys.executable, "-P", "-m", "omlx.server", "serve", "--model-dir", str(model.parent), "--port", "{port}")
    command += ("--max-num-seqs", str(max(_STREAMS)))
    contender = Contender("omlx", "", command, model.name, os.environ)
    with gpu.serving(contender, folder / "omlx.log", figures, "start, s") as client:
        for count in (1, 2) if tiny else _STREAMS:
            gpu.decode(client, figures, count)
        for count in (256,) if tiny else _PREFILLS:
            gpu.prefill(client, figures, count)
    return figures


if __name__ == "__main__":
    sys.exit(main())
