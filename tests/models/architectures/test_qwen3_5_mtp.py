"""Qwen3.5's MTP layer: loaded where it is there, and drafting in the engine without changing an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from omlx.server.engine.mtp_drafter import MtpDrafter
from omlx.server.engine.recorder import Recorder
from omlx.server.engine.rewinding_layout import RewindingLayout
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.models.architectures import qwen3_5, qwen3_5_moe
from omlx.server.models.loading import load_model

from ...cache.models import QWEN3_5
from ...engine.driving import drain, make_engine, step
from ...engine.tiny_model import greedy_solo, make_batch, prompt_of, submit

MOE: dict[str, Any] = QWEN3_5 | {
    "model_type": "qwen3_5_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


def write_qwen3_5(
    folder: Path, config: dict[str, Any], kind: Any = qwen3_5, prefix: str = "mtp.", left_out: str = ""
) -> Any:
    """A folder with the layer's tensors under the published names, and the model it was made of."""
    mx.random.seed(5)
    model = kind.Model(kind.ModelArgs.from_dict(config))
    model.mtp = qwen3_5.MtpLayer(model.language_model.args)
    arrays: dict[str, Any] = {}
    for name, array in tree_flatten(model.parameters()):
        own = name.startswith("mtp.")
        if not (own and left_out and left_out in name):
            arrays[prefix + name.removeprefix("mtp.") if own else name] = array
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    return model


@pytest.mark.parametrize("prefix", ["mtp.", "language_model.mtp."])
@pytest.mark.parametrize(("config", "kind"), [(QWEN3_5, qwen3_5), (MOE, qwen3_5_moe)], ids=["dense", "experts"])
def test_the_layer_is_loaded_with_its_weights(tmp_path: Path, config: dict[str, Any], kind: Any, prefix: str) -> None:
    expected = write_qwen3_5(tmp_path, config, kind, prefix)
    loaded: Any = load_model(tmp_path).mtp
    assert loaded is not None
    tokens = mx.array([prompt_of(12)])
    drafts = []
    for model in (expected, loaded):
        _, hidden = model.forward(tokens, model.make_cache())
        drafts.append(model.draft(tokens[:, 1:], hidden[:, :-1], model.make_draft_cache()))
    assert float(mx.abs(drafts[0] - drafts[1]).max()) < 1e-5


_SHIFTED = ("layernorm.weight", "q_norm.weight", "k_norm.weight", "model.norm.weight")


def _as_published(arrays: dict[str, Any]) -> dict[str, Any]:
    """Hugging Face's form: norms lack their one, convolutions lie the other way, experts' gate and up are one array."""
    raw: dict[str, Any] = {}
    for name, array in arrays.items():
        base, is_expert, kind = name.partition(".switch_mlp.")
        if is_expert and kind == "gate_proj.weight":
            up = arrays[f"{base}.switch_mlp.up_proj.weight"]
            raw[f"{base}.experts.gate_up_proj"] = mx.concatenate([array, up], axis=-2)
        elif is_expert and kind == "down_proj.weight":
            raw[f"{base}.experts.down_proj"] = array
        elif not is_expert:
            own_norm = name.startswith("mtp.") and array.ndim == 1 and "norm" in name
            shifted = array - 1.0 if own_norm or name.endswith(_SHIFTED) else array
            raw[name] = mx.contiguous(shifted.moveaxis(1, 2)) if "conv1d.weight" in name else shifted
    return raw


@pytest.mark.parametrize(("config", "kind"), [(QWEN3_5, qwen3_5), (MOE, qwen3_5_moe)], ids=["dense", "experts"])
def test_the_published_form_of_the_layer_is_the_same_layer(tmp_path: Path, config: dict[str, Any], kind: Any) -> None:
    expected = write_qwen3_5(tmp_path, config, kind)
    file = str(tmp_path / "model.safetensors")
    raw: Any = _as_published(dict(tree_flatten(expected.parameters())))
    mx.save_safetensors(file, raw)
    loaded: Any = load_model(tmp_path).mtp
    assert loaded is not None
    found = dict(tree_flatten(loaded.parameters()))
    for name, array in tree_flatten(expected.parameters()):
        assert float(mx.abs(found[name] - array).max()) < 1e-5, name


def test_without_the_whole_layer_the_model_loads_without_it(tmp_path: Path) -> None:
    write_qwen3_5(tmp_path, QWEN3_5, qwen3_5, left_out="pre_fc_norm_hidden")
    assert load_model(tmp_path).mtp is None


def test_answers_with_the_layer_are_those_of_plain_decoding(tmp_path: Path) -> None:
    write_qwen3_5(tmp_path, QWEN3_5, qwen3_5)
    model: Any = load_model(tmp_path).model
    run, wanted = Recorder(model), {f"r{n}": (prompt_of(length, n), 14) for n, length in enumerate((3, 40, 21))}
    batch = make_batch(model, RewindingLayout(run), drafters=[MtpDrafter(model)], run=run)
    engine, answers = make_engine(batch, SchedulerLimits(max_num_seqs=2)), {}
    for name, (prompt, count) in wanted.items():
        engine.submit(submit(name, prompt, count))
        step(engine, answers)
    drain(engine, answers)
    assert batch.drafts[0].num_drafts > 0
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name
