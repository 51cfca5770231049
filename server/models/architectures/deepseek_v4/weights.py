"""Any checkpoint of DeepSeek V4 as the parameters of our model.

Attention and the shared experts become bfloat16. Routed experts, nearly all of the model, stay packed: FP4
and FP8 with power-of-two scales are formats MLX computes with, so that not a bit of them changes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ....errors import CorruptModel
from ...deepseek_v4_names import our_name
from .block_formats import dequantized, is_bytes, packed_for_mlx
from .config import ModelArgs

_EXPERT = re.compile(r"(.+\.ffn)\.experts\.(\d+)\.(\w+_proj)\.(\w+)")
_OUTPUT_GROUP = re.compile(r"(.+\.attn\.wo_a)\.(\d+)\.(\w+)")
_FUSED = re.compile(r"(.+\.ffn)\.experts\.(gate_up|down)_proj\.(weight|scale)")

Weights = dict[str, mx.array]


def fit_weights(model: nn.Module, args: ModelArgs, weights: Weights, num_mtp_layers: int = 0) -> Weights:
    """Rename, stack and unpack; `model`'s expert modules are replaced where their weights stay packed."""
    named = _renamed(weights, args, num_mtp_layers)
    stacked = _unfused(_stacked(named, args), args)
    fitted: Weights = {}
    formats: dict[str, dict[str, Any]] = {}
    for name, array in stacked.items():
        path, _, kind = name.rpartition(".")
        scale = stacked.get(f"{path}.scale") if kind == "weight" else None
        if kind == "scale" and f"{path}.weight" in stacked:
            continue
        packed = None
        if scale is not None and ".switch_mlp." in name:
            packed = packed_for_mlx(name, array, scale, args.fp8_block)
        if packed is not None:
            fitted[name], fitted[f"{path}.scales"], formats[path] = packed
        elif scale is not None:
            fitted[name] = dequantized(name, array, scale, args.fp8_block)
        elif kind == "weight" and is_bytes(array):
            raise CorruptModel(f"{name}: packed bytes without their scales; the checkpoint is not whole")
        else:
            fitted[name] = array
    _group_outputs(fitted, args)
    if formats:
        nn.quantize(model, class_predicate=lambda path, _: formats.get(path, False))
    return fitted


def _renamed(weights: Weights, args: ModelArgs, num_mtp_layers: int) -> Weights:
    named: Weights = {}
    for name, array in weights.items():
        ours = our_name(name, args.num_hidden_layers, num_mtp_layers)
        if ours is None:
            continue
        if ours in named:
            raise CorruptModel(f"{name}: the checkpoint has {ours} twice, under different names")
        named[ours] = array
    return named


def _stacked(named: Weights, args: ModelArgs) -> Weights:
    """One array for a layer's experts, and one for its output groups, where the checkpoint has one for each."""
    rest: Weights = {}
    parts: defaultdict[str, dict[int, mx.array]] = defaultdict(dict)
    for name, array in named.items():
        if found := _EXPERT.fullmatch(name):
            parts[f"{found[1]}.switch_mlp.{found[3]}.{found[4]}"][int(found[2])] = array
        elif found := _OUTPUT_GROUP.fullmatch(name):
            parts[f"{found[1]}.{found[3]}"][int(found[2])] = array
        else:
            rest[name] = array
    for name, arrays in parts.items():
        kind, count = ("output groups", args.o_groups) if ".wo_a." in name else ("experts", args.n_routed_experts)
        if sorted(arrays) != list(range(count)):
            raise CorruptModel(f"{name}: {len(arrays)} {kind} in the checkpoint, {count} in the config")
        rest[name] = mx.stack([arrays[index] for index in range(count)])
    return rest


def _unfused(named: Weights, args: ModelArgs) -> Weights:
    """Hugging Face keeps all experts' gate and up projections in one array, the gate first."""
    found: Weights = {}
    for name, array in named.items():
        fused = _FUSED.fullmatch(name)
        if fused is None:
            found[name] = array
        elif fused[2] == "down":
            found[f"{fused[1]}.switch_mlp.down_proj.{fused[3]}"] = array
        else:
            if array.shape[1] % 2 or (fused[3] == "scale" and args.moe_intermediate_size % args.fp8_block[0]):
                raise CorruptModel(f"{name}: gate and up projections of shape {array.shape} cannot be parted")
            for part, half in zip(("gate", "up"), mx.split(array, 2, axis=1), strict=True):
                # An array of its own: MLX 0.32's sorted gather_mm on CUDA reads a strided half wrongly.
                found[f"{fused[1]}.switch_mlp.{part}_proj.{fused[3]}"] = mx.contiguous(half)
    return found


def _group_outputs(fitted: Weights, args: ModelArgs) -> None:
    """The grouped output projection, a matrix for each group; checkpoints have them below one another."""
    for name, array in fitted.items():
        if ".attn.wo_a." in name and array.ndim == 2:
            if array.shape[0] != args.o_groups * args.o_lora_rank:
                raise CorruptModel(f"{name}: {array.shape[0]} rows for {args.o_groups} groups of {args.o_lora_rank}")
            fitted[name] = array.reshape(args.o_groups, args.o_lora_rank, -1)
