"""Whether a model folder holds an MTP layer that omlx can draft with, found from its tensors.

A config is no proof: conversions leave the layer out and the count of it in. Read without MLX.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..requests import Json
from .catalog import weight_headers
from .folder import read_config, text_config

COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers")
"""What configs call the number of MTP layers."""
_UNDER_MTP = re.compile(r"(?:language_model\.)?(?:model\.)?mtp\.(.+)")
_IN_LAYER = re.compile(r"(?:language_model\.)?(?:model\.)?layers\.(\d+)\.(.+)")
_DRAFTER = re.compile(r"\d+\.(?:markov_head|confidence_head|main_proj)\.")
"""Only DSpark's three blocks have these; https://github.com/vllm-project/vllm/pull/41834."""


@dataclass(frozen=True, slots=True)
class MtpReport:
    """`reason` says why not and what to do; it is empty where the layer can be used."""

    mtp_compatible: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of MTP layer: `sign` is a tensor that only it has, `parts` what it cannot do without."""

    sign: re.Pattern[str]
    parts: tuple[str, ...]


_FORMS = (
    _Form(  # DeepSeek V4
        re.compile(r"0\.e_proj\."),
        (
            *(r"0\.e_proj\.weight", r"0\.h_proj\.weight", r"0\.enorm\.weight", r"0\.hnorm\.weight"),
            *(r"0\.norm\.weight", r"0\.hc_head[._]fn", r"0\.(?:attn|self_attn)\.\w+\.weight"),
            *(r"0\.(?:ffn|mlp)\.gate\.weight", r"0\.(?:ffn|mlp)\.(?:experts|switch_mlp)\."),
        ),
    ),
    _Form(  # the Qwen3.5 family
        re.compile(r"fc\."),
        (
            *(r"fc\.weight", r"norm\.weight", r"pre_fc_norm_embedding\.weight", r"pre_fc_norm_hidden\.weight"),
            *(r"layers\.0\.self_attn\.q_proj\.weight", r"layers\.0\.mlp\."),
        ),
    ),
)


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
        return MtpReport(
            False,
            "its mtp.* tensors are a DSpark drafter (blocks with a Markov head), not an MTP layer, and are not loaded; "
            "n-gram drafts work, and an MTP layer comes with the checkpoints from before 0731",
        )
    form = next((form for form in _FORMS if any(form.sign.match(name) for name in own)), None)
    if form is not None:
        missing = [part for part in form.parts if not any(re.match(part, name) for name in own)]
        if not missing:
            return MtpReport(True)
        return MtpReport(
            False,
            f"its MTP layer is not whole ({len(missing)} of {len(form.parts)} parts are missing); download the model "
            "again, or convert it again from the original with `omlx convert --keep-mtp`",
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
