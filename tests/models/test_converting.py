"""Models packed in fewer bits: the numbers are what plain arithmetic says, and what was stopped goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import llama

from omlx.server.errors import CorruptModel, ModelError
from omlx.server.models.architectures import qwen3_5, qwen3_5_moe
from omlx.server.models.catalog import read_entry
from omlx.server.models.converting import Conversion, Converted, convert
from omlx.server.models.loading import load_model
from omlx.server.models.mtp import mtp_report
from omlx.server.models.quantizing import Bits

from ..cache.models import QWEN3_5
from ..engine.tiny_model import prompt_of
from .architectures.deepseek_v4_model import build, distance, in_pieces
from .architectures.published_deepseek_v4 import published, published_config, write_checkpoint
from .architectures.random_deepseek_v4 import CONFIGS, Weights, mtp_weights, random_tokens, random_weights
from .architectures.test_deepseek_v4_weights import fused
from .architectures.test_qwen3_5_mtp import MOE, write_qwen3_5

CONFIG: dict[str, Any] = CONFIGS["full"] | {
    "hidden_size": 128,
    "moe_intermediate_size": 64,
    "q_lora_rank": 64,
    "head_dim": 64,
    "partial_rotary_factor": 0.5,
    "o_lora_rank": 64,
    "index_head_dim": 64,
    "num_hidden_layers": 3,
}
"""Every matrix's columns are a multiple of every group's size."""
TOKENS = random_tokens(CONFIG, 140)
SMALL = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 12, "intermediate_size": 512}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """The published checkpoint with its MTP layer, and the numbers that it stands for."""
    folder = tmp_path_factory.mktemp("v4") / "original"
    folder.mkdir()
    tensors, numbers = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    write_checkpoint(folder, published_config(CONFIG), tensors)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder, numbers


def _plain_llama(folder: Path) -> None:
    arguments: dict[str, Any] = SMALL | {
        "num_attention_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": 128,
        "max_position_embeddings": 512,
    }
    mx.random.seed(3)
    model = llama.Model(llama.ModelArgs.from_dict(arguments))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(arguments))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))


def _unpacked(weight: np.ndarray, bits: int) -> np.ndarray:
    """The numbers packed in 32-bit words, the lowest bits first."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    return (weight[..., None] >> shifts & (2**bits - 1)).reshape(*weight.shape[:-1], -1)


def plain_weights(module: Any) -> np.ndarray:
    """A packed layer's weights by the formats' definitions."""
    codes = _unpacked(np.array(module.weight), module.bits)
    if module.mode == "affine":
        scales, biases = (np.array(array.astype(mx.float32)) for array in (module.scales, module.biases))
        return codes * np.repeat(scales, module.group_size, -1) + np.repeat(biases, module.group_size, -1)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)[codes]
    return values * np.repeat(2.0 ** (np.array(module.scales).astype(np.float32) - 127), 32, -1)


def _as_plain_model(loaded: Any) -> Any:
    """A model in float32 with the numbers that the packed one's weights stand for."""
    arrays: Any = tree_flatten(loaded.parameters())
    weights = {name: np.array(array.astype(mx.float32)) for name, array in arrays}
    for path, module in loaded.named_modules():
        if "scales" in module:
            for kind in ("scales", "biases"):
                weights.pop(f"{path}.{kind}", None)
            weights[f"{path}.weight"] = plain_weights(module)
    for name, array in weights.items():
        if name.endswith("tid2eid"):
            weights[name] = array.astype(np.int32)
    return build(CONFIG, weights)


@pytest.mark.parametrize("bits", Bits)
def test_a_published_v4_answers_as_the_numbers_in_its_packed_weights_say(
    original: tuple[Path, Weights], tmp_path: Path, bits: Bits
) -> None:
    folder, numbers = original
    converted = convert(Conversion(folder, tmp_path / "packed", bits, keep_mtp=True, shard_bytes=1 << 16))
    loaded: Any = load_model(converted.path).model
    found = in_pieces(loaded, TOKENS, [100, 40])
    assert distance(found, in_pieces(_as_plain_model(loaded), TOKENS, [140])) < 1e-4
    if bits is Bits.EIGHT:
        assert distance(found, in_pieces(build(CONFIG, fused(numbers)), TOKENS, [140])) < 0.1
    assert loaded.model.layers[0].attn.wq_a.bits == bits.packing.bits
    assert read_entry(converted.path, "m").quantization == ("mxfp4" if bits is Bits.MXFP4 else f"{bits}bit")


def test_what_would_stay_as_it_is_is_refused_with_the_reason(tmp_path: Path) -> None:
    _plain_llama(tmp_path / "plain")
    packed = convert(Conversion(tmp_path / "plain", tmp_path / "packed")).path
    for bits in Bits:
        with pytest.raises(ModelError, match=rf"is packed already \(4bit\), and --bits {bits} would change nothing"):
            convert(Conversion(packed, tmp_path / "again", bits))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "plain"]


@pytest.mark.parametrize("bits", Bits)
def test_fp4_experts_stay_bit_for_bit(original: tuple[Path, Weights], tmp_path: Path, bits: Bits) -> None:
    folder, numbers = original
    loaded: Any = load_model(convert(Conversion(folder, tmp_path / "packed", bits)).path).model
    experts = loaded.model.layers[1].ffn.switch_mlp.down_proj
    assert experts.mode == "mxfp4"
    expected = [numbers[f"model.layers.1.mlp.experts.{index}.down_proj.weight"] for index in range(8)]
    assert np.array_equal(plain_weights(experts), np.stack(expected))


def test_the_mtp_layer_is_kept_where_that_is_asked_for_and_the_config_says_what_is_so(
    original: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, _ = original
    kept = convert(Conversion(folder, tmp_path / "kept", keep_mtp=True))
    left = convert(Conversion(folder, tmp_path / "left"))
    assert (kept.has_mtp, kept.left_mtp) == (True, False)
    assert (left.has_mtp, left.left_mtp) == (False, True)
    assert mtp_report(kept.path).mtp_compatible
    assert load_model(kept.path).mtp is not None
    assert mtp_report(left.path).reason.startswith("it has no MTP layer")
    assert json.loads((left.path / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_texts_come_along_and_code_does_not(original: tuple[Path, Weights], tmp_path: Path) -> None:
    converted = convert(Conversion(original[0], tmp_path / "packed"))
    names = {file.name for file in converted.path.iterdir()}
    assert {"tokenizer.json", "config.json", "model.safetensors.index.json"} < names
    assert "modeling.py" not in names
    assert [folder.name for folder in tmp_path.iterdir()] == ["packed"]


def test_what_is_packed_in_more_bits_is_packed_anew(original: tuple[Path, Weights], tmp_path: Path) -> None:
    eight = convert(Conversion(original[0], tmp_path / "eight", Bits.EIGHT))
    four = convert(Conversion(eight.path, tmp_path / "four", Bits.FOUR))
    loaded: Any = load_model(four.path).model
    assert loaded.model.layers[0].attn.wq_b.bits == 4
    assert four.size_bytes < eight.size_bytes
    assert np.isfinite(in_pieces(loaded, TOKENS, [140])).all()


class Stopped(Exception):
    pass


def test_a_conversion_that_was_stopped_goes_on_from_the_last_whole_shard(tmp_path: Path) -> None:
    _plain_llama(tmp_path / "plain")
    conversion = Conversion(tmp_path / "plain", tmp_path / "packed", shard_bytes=1 << 20)
    reported: list[tuple[int, int]] = []

    def stop_soon(done: int, total: int) -> None:
        reported.append((done, total))
        if len(reported) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        convert(conversion, stop_soon)
    assert not conversion.target.exists()
    work = tmp_path / ".packed.converting"
    before = {file.name: file.stat().st_mtime_ns for file in work.glob("model-*")}
    assert len(before) == 2
    (work / f"part-{min(before)}").write_bytes(b"half")
    converted = convert(conversion)
    after = {file.name: file.stat().st_mtime_ns for file in converted.path.glob("model-*")}
    assert before.items() < after.items()
    whole = convert(Conversion(tmp_path / "plain", tmp_path / "whole", shard_bytes=1 << 20))
    for file in whole.path.glob("model-*"):
        assert file.read_bytes() == (converted.path / file.name).read_bytes()


def test_shards_of_another_conversion_are_not_taken_over(tmp_path: Path) -> None:
    _plain_llama(tmp_path / "plain")

    def stop(*_: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        convert(Conversion(tmp_path / "plain", tmp_path / "packed", Bits.EIGHT, shard_bytes=1 << 20), stop)
    converted = convert(Conversion(tmp_path / "plain", tmp_path / "packed", Bits.FOUR, shard_bytes=1 << 20))
    module: Any = load_model(converted.path).model
    assert {layer.self_attn.q_proj.bits for layer in module.model.layers} == {4}


def test_memory_holds_a_shard_and_not_the_model(tmp_path: Path) -> None:
    _plain_llama(tmp_path / "plain")
    size = (tmp_path / "plain" / "model.safetensors").stat().st_size
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    convert(Conversion(tmp_path / "plain", tmp_path / "packed", Bits.EIGHT, shard_bytes=size // 40))
    assert mx.get_peak_memory() - held < size / 6


def _try(folder: Path, target: Path) -> Converted:
    return convert(Conversion(folder, target))


def test_what_cannot_be_converted_is_refused_and_leaves_nothing_that_looks_like_a_model(tmp_path: Path) -> None:
    _plain_llama(tmp_path / "plain")
    (tmp_path / "there").mkdir()
    with pytest.raises(ModelError, match="is there already"):
        _try(tmp_path / "plain", tmp_path / "there")
    weights: Any = mx.load(str(tmp_path / "plain" / "model.safetensors"))
    weights["model.norm.weight"] = mx.full(weights["model.norm.weight"].shape, mx.inf)
    mx.save_safetensors(str(tmp_path / "plain" / "model.safetensors"), dict(weights))
    with pytest.raises(CorruptModel, match=r"model\.norm\.weight holds what is no finite number"):
        _try(tmp_path / "plain", tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(("config", "kind"), [(QWEN3_5, qwen3_5), (MOE, qwen3_5_moe)], ids=["dense", "experts"])
def test_qwen_s_mtp_layer_is_kept_too_and_drafts(tmp_path: Path, config: dict[str, Any], kind: Any) -> None:
    folder = tmp_path / "original"
    folder.mkdir()
    write_qwen3_5(folder, config, kind)
    kept = convert(Conversion(folder, tmp_path / "kept", Bits.EIGHT, keep_mtp=True))
    left = convert(Conversion(folder, tmp_path / "left", Bits.EIGHT))
    assert (kept.has_mtp, left.has_mtp) == (True, False)
    assert mtp_report(kept.path).mtp_compatible
    loaded: Any = load_model(kept.path).mtp
    original: Any = load_model(folder).mtp
    tokens = mx.array([prompt_of(12)])
    drafts = []
    for model in (original, loaded):
        _, hidden = model.forward(tokens, model.make_cache())
        drafted = model.draft(tokens[:, 1:], hidden[:, :-1], model.make_draft_cache())
        drafts.append(np.array(drafted.astype(mx.float32)))
    assert distance(drafts[1], drafts[0]) < 0.1
