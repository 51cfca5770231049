"""Whether a model folder holds an MTP layer that omlx can draft with, found from its tensors.

A config is no proof: conversions leave the layer out and the count of it in. Read without MLX.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..requests import Json
from .catalog import weight_headers
from .deepseek_v4_names import our_name
from .folder import read_config, text_config

COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
"""What configs call the number of MTP layers."""
_MOST_NAMED = 4
_UNDER_MTP = re.compile(r"(?:language_model\.)?(?:model\.)?mtp\.(.+)")
_IN_LAYER = re.compile(r"(?:language_model\.)?(?:model\.)?layers\.(\d+)\.(.+)")
_DRAFTER = re.compile(r"\d+\.(?:markov_head|confidence_head|main_proj)\.")
"""Only DSpark's three blocks have these; https://github.com/vllm-project/vllm/pull/41834."""
_DRAFTER_KEYS = "dspark_"
_A_DRAFTER = "a DSpark drafter (blocks with a Markov head), not an MTP layer"
_INSTEAD = "n-gram drafts work, and an MTP layer comes with the checkpoints from before 0731"


@dataclass(frozen=True, slots=True)
class MtpReport:
    """`reason` says why not and what to do; it is empty where the layer can be used."""

    mtp_compatible: bool
    reason: str = ""


_V4_SIGN = re.compile(r"0\.e_proj\.")
V4_PARTS = (
    *("attn_norm.weight", "ffn_norm.weight", "enorm.weight", "hnorm.weight", "norm.weight"),
    *("e_proj.weight", "h_proj.weight", "hc_head.fn", "hc_head.base", "hc_head.scale"),
    *(f"{part}_hc.{kind}" for part in ("attn", "ffn") for kind in ("fn", "base", "scale")),
    *(f"attn.{name}.weight" for name in ("wq_a", "q_norm", "wq_b", "wkv", "kv_norm", "wo_a", "wo_b")),
    *("attn.attn_sink", "ffn.gate.weight", "ffn.gate.e_score_correction_bias"),
    *(f"ffn.{kind}.{part}_proj.weight" for kind in ("switch_mlp", "shared_experts") for part in ("gate", "up", "down")),
)
"""DeepSeek V4's layer, by the names of our module's parameters below `mtp.0`; a test compares them."""
_V4_EXPERT = re.compile(r"ffn\.experts\.(\d+)\.(\w+_proj)\.weight")

_QWEN_SIGN = re.compile(r"fc\.")
_QWEN_SHARED = (
    *("fc.weight", "norm.weight", "pre_fc_norm_embedding.weight", "pre_fc_norm_hidden.weight"),
    *("layers.0.input_layernorm.weight", "layers.0.post_attention_layernorm.weight"),
    *(f"layers.0.self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
)
QWEN_PARTS = (*_QWEN_SHARED, *(f"layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")))
"""The Qwen3.5 family's layer, by the names of our module's parameters below `mtp`; a test compares them."""
QWEN_MOE_PARTS = (
    *_QWEN_SHARED,
    *("layers.0.mlp.gate.weight", "layers.0.mlp.shared_expert_gate.weight"),
    *(
        f"layers.0.mlp.{kind}.{part}_proj.weight"
        for kind in ("switch_mlp", "shared_expert")
        for part in ("gate", "up", "down")
    ),
)
_QWEN_MOE_SIGN = re.compile(r"layers\.0\.mlp\.(?:gate|shared_expert_gate|shared_expert|switch_mlp|experts)\.")
_FUSED = {
    "experts.gate_up_proj": ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight"),
    "experts.down_proj": ("switch_mlp.down_proj.weight",),
}
"""Hugging Face's arrays of all experts, and what they hold."""


def mtp_report(folder: Path) -> MtpReport:
    """Judge a model folder by the headers of its weight files. Never raises: a folder that cannot be read
    is reported with its reason."""
    try:
        config = read_config(folder)
        names = [tensor.name for header in weight_headers(folder) for tensor in header.tensors]
    except ModelError as error:
        return MtpReport(False, str(error))
    return judge(config, names)


def judge(config: Mapping[str, Json], names: list[str]) -> MtpReport:
    """The report of a model with this config and these tensors."""
    own = [match[1] for name in names if (match := _UNDER_MTP.fullmatch(name))]
    if any(_DRAFTER.match(name) for name in own):
        return MtpReport(False, f"its mtp.* tensors are {_A_DRAFTER}, and are not loaded; {_INSTEAD}")
    if not own and _declared(config) and any(key.startswith(_DRAFTER_KEYS) for key in text_config(config)):
        return MtpReport(False, f"what its config declares is {_A_DRAFTER}; {_INSTEAD}")
    missing = _missing(config, own)
    if missing is not None and not missing:
        return MtpReport(True)
    if missing:
        shown = ", ".join(missing[:_MOST_NAMED]) + (
            f" and {len(missing) - _MOST_NAMED} more" * (len(missing) > _MOST_NAMED)
        )
        return MtpReport(
            False,
            f"its MTP layer is not whole ({shown} missing); download the model again, or convert it again from the "
            "original with `omlx convert --keep-mtp`",
        )
    if own or _has_extra_layer(config, names):
        return MtpReport(False, "it has an MTP layer of a form that omlx does not run; n-gram drafts work all the same")
    if _declared(config) == 0:
        return MtpReport(False, "it has no MTP layer; n-gram drafts work all the same")
    return MtpReport(
        False,
        f"its config declares {_declared(config)} MTP layers, but no tensor of one is there: the conversion left them "
        "out; convert the original with `omlx convert --keep-mtp`",
    )


def _missing(config: Mapping[str, Json], own: list[str]) -> list[str] | None:
    """Which parts of the layer are not there; None where it is of no form that omlx runs."""
    if any(map(_V4_SIGN.match, own)):
        names = [our_name(f"mtp.{name}", 0, 1) or "" for name in own]
        held = [name.removeprefix("mtp.0.") for name in names]
        count = text_config(config).get("n_routed_experts")
        experts = {(int(found[1]), found[2]) for name in held if (found := _V4_EXPERT.fullmatch(name))}
        number = count if isinstance(count, int) else 1 + max((index for index, _ in experts), default=0)
        wanted = {(index, f"{part}_proj") for index in range(number) for part in ("gate", "up", "down")}
        lost = sorted(wanted - experts) if experts else []
        whole = [f"ffn.switch_mlp.{part}_proj.weight" for part in ("gate", "up", "down")] if experts else []
        lacking = _lacking(V4_PARTS, [*held, *whole])
        return [*lacking, *(f"ffn.experts.{index}.{part}.weight" for index, part in lost)]
    if any(map(_QWEN_SIGN.match, own)):
        return _lacking(QWEN_MOE_PARTS if any(map(_QWEN_MOE_SIGN.match, own)) else QWEN_PARTS, own)
    return None


def _lacking(parts: Sequence[str], own: Sequence[str]) -> list[str]:
    held = set(own)
    for name in own:
        base, dot, kind = name.removesuffix(".weight").partition("experts.")
        held.update(base + part for part in _FUSED.get(dot + kind, ()))
    return [part for part in parts if part not in held]


def _has_extra_layer(config: Mapping[str, Json], names: list[str]) -> bool:
    """DeepSeek V3's and GLM's MTP layers stand behind the last layer of the model."""
    count = text_config(config).get("num_hidden_layers")
    if not isinstance(count, int):
        return False
    return any((match := _IN_LAYER.fullmatch(name)) and int(match[1]) >= count for name in names)


def _declared(config: Mapping[str, Json]) -> int:
    for source in (text_config(config), config):
        for key in COUNTS:
            value = source.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0
