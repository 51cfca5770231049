"""A GGUF becomes a model folder that computes what the file's weights are worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from mlx_lm.models import llama

from omlx.server.errors import CorruptModel, ModelError, UnsupportedModel
from omlx.server.models.catalog import discover
from omlx.server.models.importing import ImportType, default_name, import_gguf, resolve_type
from omlx.server.models.loading import load_model

from .small_gguf import Arrays, SmallLlama

PROMPT = mx.array([[3, 70, 71, 72, 9, 100, 264 - 1]])


def import_small(tmp_path: Path, small: SmallLlama, dtype: ImportType = ImportType.FLOAT32) -> tuple[Path, Arrays]:
    worth = small.write(tmp_path / "small.gguf")
    return import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", dtype=dtype), worth


def logits(folder: Path) -> mx.array:
    return load_model(folder).model(PROMPT).astype(mx.float32)


def expected_logits(folder: Path, worth: Arrays) -> mx.array:
    """The same architecture with the weights as Hugging Face would have them, no importer involved."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization", None)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    model.load_weights([(name, mx.array(values)) for name, values in worth.items()])
    return model(PROMPT)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0])
def test_every_type_computes_what_it_is_worth_in_float32(tmp_path: Path, kind: Type) -> None:
    folder, worth = import_small(tmp_path, SmallLlama(type=kind))
    assert mx.allclose(logits(folder), expected_logits(folder, worth), atol=1e-4)


@pytest.mark.parametrize(
    "small",
    [
        SmallLlama(tied=False),
        SmallLlama(kv_heads=4),
        SmallLlama(kv_heads=1, heads=2),
        SmallLlama(attention_biases=True),
        SmallLlama(metadata={"llama.attention.key_length": 16, "llama.rope.dimension_count": 16}),
        SmallLlama(metadata={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}),
        SmallLlama(metadata={"llama.rope.freq_base": 500000.0, "llama.attention.layer_norm_rms_epsilon": 1e-6}),
    ],
)
def test_every_shape_of_llama_computes_what_it_is_worth(tmp_path: Path, small: SmallLlama) -> None:
    folder, worth = import_small(tmp_path, small)
    assert mx.allclose(logits(folder), expected_logits(folder, worth), atol=1e-4)


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q8_0])
def test_packed_types_stay_packed_without_loss(tmp_path: Path, kind: Type) -> None:
    bits = 8 if kind is Type.Q8_0 else 4
    folder, worth = import_small(tmp_path, SmallLlama(type=kind), ImportType.KEEP)
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    for name, values in worth.items():
        if values.ndim == 2:
            packed = [stored[name.removesuffix("weight") + part].astype(mx.float32) for part in ("scales", "biases")]
            unpacked = mx.dequantize(stored[name], *packed, group_size=32, bits=bits)
            assert np.allclose(np.array(unpacked), values, atol=1e-6), name
    assert read_json(folder / "config.json")["quantization"] == {"group_size": 32, "bits": bits, "mode": "affine"}
    assert mx.allclose(logits(folder), expected_logits(folder, worth), atol=0.05)


def test_packed_tensors_are_bit_for_bit_what_mlx_itself_reads(tmp_path: Path) -> None:
    types = {"token_embd.weight": Type.Q8_0, "blk.0.ffn_up.weight": Type.Q4_0, "blk.1.ffn_down.weight": Type.Q4_1}
    folder, _ = import_small(tmp_path, SmallLlama(types=types), ImportType.KEEP)
    ours, theirs = mx.load(str(folder / "model.safetensors")), mx.load(str(tmp_path / "small.gguf"))
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    names = {
        "model.embed_tokens": "token_embd",
        "model.layers.0.mlp.up_proj": "blk.0.ffn_up",
        "model.layers.1.mlp.down_proj": "blk.1.ffn_down",
    }
    for name, source in names.items():
        for part in ("weight", "scales", "biases"):
            assert mx.array_equal(ours[f"{name}.{part}"], theirs[f"{source}.{part}"]), f"{name}.{part}"


def with_random_blocks(name: str, kind: Type, block_bytes: int, scale_offsets: Sequence[int]) -> SmallLlama:
    """A model whose tensor `name` is random bytes, one block a row, but for its sane float16 scales."""
    small = SmallLlama(hidden=256, intermediate=256, layers=1)
    blocks = np.random.default_rng(3).integers(0, 256, (256, block_bytes), dtype=np.uint8)
    for offset in scale_offsets:
        blocks[:, offset : offset + 2] = np.full((256, 1), 0.002, np.float16).view(np.uint8)
    small.raw[name] = (kind, blocks)
    return small


def test_q6_k_is_read_as_mlx_itself_reads_it(tmp_path: Path) -> None:
    folder, _ = import_small(tmp_path, with_random_blocks("blk.0.ffn_up.weight", Type.Q6_K, 210, [208]))
    ours, theirs = mx.load(str(folder / "model.safetensors")), mx.load(str(tmp_path / "small.gguf"))
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    expected = theirs["blk.0.ffn_up.weight"].astype(mx.float32)
    assert mx.allclose(ours["model.layers.0.mlp.up_proj.weight"], expected, rtol=2e-3, atol=1e-4)


def test_q4_k_is_read_as_the_format_defines_it(tmp_path: Path) -> None:
    """Against the definition, for MLX 0.32's own reader is wrong about the second half of each 64 values."""
    small = with_random_blocks("blk.0.ffn_up.weight", Type.Q4_K, 144, [0, 2])
    folder, _ = import_small(tmp_path, small)
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    values = np.array(stored["model.layers.0.mlp.up_proj.weight"])
    for row, block in zip(values, small.raw["blk.0.ffn_up.weight"][1].astype(int), strict=True):
        scales, quants = block[4:16], block[16:]
        for part in range(8):
            if part < 4:
                scale, low = scales[part] & 63, scales[part + 4] & 63
            else:
                scale = (scales[part + 4] & 15) | ((scales[part - 4] >> 6) << 4)
                low = (scales[part + 4] >> 4) | ((scales[part] >> 6) << 4)
            nibbles = (quants[32 * (part // 2) : 32 * (part // 2 + 1)] >> (4 * (part % 2))) & 15
            expected = float(np.float16(0.002)) * (scale * nibbles - low)
            assert np.allclose(row[32 * part : 32 * (part + 1)], expected, atol=1e-5)


def test_mixed_packed_types_are_named_one_by_one(tmp_path: Path) -> None:
    small = SmallLlama(type=Type.Q4_1, types={"token_embd.weight": Type.Q8_0})
    folder, worth = import_small(tmp_path, small, ImportType.KEEP)
    quantization = read_json(folder / "config.json")["quantization"]
    assert quantization["bits"] == 4
    assert quantization["model.embed_tokens"] == {"group_size": 32, "bits": 8, "mode": "affine"}
    assert mx.allclose(logits(folder), expected_logits(folder, worth), atol=0.05)


@pytest.mark.parametrize(("dtype", "bits"), [(ImportType.BITS4, 4), (ImportType.BITS8, 8)])
def test_weights_are_quantized_anew_on_request(tmp_path: Path, dtype: ImportType, bits: int) -> None:
    folder, worth = import_small(tmp_path, SmallLlama(), dtype)
    assert read_json(folder / "config.json")["quantization"]["bits"] == bits
    correlation = np.corrcoef(np.array(logits(folder)).ravel(), np.array(expected_logits(folder, worth)).ravel())
    assert correlation[0, 1] > (0.99 if bits == 8 else 0.9)


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        (Type.F32, ImportType.FLOAT32, mx.float32),
        (Type.F32, ImportType.BFLOAT16, mx.bfloat16),
        (Type.F32, ImportType.KEEP, mx.bfloat16),
        (Type.Q5_1, ImportType.KEEP, mx.bfloat16),
        (Type.F16, ImportType.KEEP, mx.float16),
    ],
)
def test_floats_have_one_type_throughout(tmp_path: Path, kind: Type, dtype: ImportType, expected: mx.Dtype) -> None:
    folder, _ = import_small(tmp_path, SmallLlama(type=kind), dtype)
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    assert {array.dtype for array in stored.values()} == {expected}


def test_bfloat16_rounds_as_mlx_does(tmp_path: Path) -> None:
    folder, worth = import_small(tmp_path, SmallLlama(), ImportType.BFLOAT16)
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    for name, values in worth.items():
        assert mx.array_equal(stored[name], mx.array(values).astype(mx.bfloat16)), name


def llama3_factors(factor: float, head_dim: int = 16, base: float = 10000.0) -> np.ndarray:
    wavelengths = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (8192 / wavelengths - 1) / 3
    medium = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wavelengths < 2048, 1, np.where(wavelengths > 8192, factor, medium)).astype(np.float32)


def test_llama_3_rope_scaling_is_recognized_by_its_factors(tmp_path: Path) -> None:
    small = SmallLlama(
        metadata={"llama.rope.freq_base": 500000.0}, extra={"rope_freqs.weight": llama3_factors(32.0, base=500000.0)}
    )
    folder, worth = import_small(tmp_path, small)
    scaling = read_json(folder / "config.json")["rope_scaling"]
    assert (scaling["rope_type"], scaling["factor"]) == ("llama3", 32.0)
    assert mx.allclose(logits(folder), expected_logits(folder, worth), atol=1e-4)


@pytest.mark.parametrize(
    ("small", "error", "words"),
    [
        (SmallLlama(metadata={"general.architecture": "qwen9"}), UnsupportedModel, "architecture 'qwen9'"),
        (SmallLlama(metadata={"tokenizer.ggml.model": "llama"}), UnsupportedModel, "tokenizer model 'llama'"),
        (SmallLlama(metadata={"tokenizer.ggml.pre": "novel"}), UnsupportedModel, "pre-tokenizer 'novel'"),
        (SmallLlama(metadata={"llama.rope.scaling.type": "yarn"}), UnsupportedModel, "rope scaling 'yarn'"),
        (SmallLlama(extra={"rope_freqs.weight": np.full(8, 3, np.float32)}), UnsupportedModel, "rope_freqs.weight"),
        (SmallLlama(metadata={"llama.expert_count": 8}), UnsupportedModel, "mixture of experts"),
        (SmallLlama(metadata={"split.count": 4}), UnsupportedModel, "one of several files"),
        (SmallLlama(metadata={"llama.rope.dimension_count": 8}), UnsupportedModel, "rope.dimension_count"),
        (SmallLlama(type=Type.TQ1_0, hidden=256, intermediate=256), UnsupportedModel, "type TQ1_0 of 'token_embd"),
        (SmallLlama(extra={"blk.0.attn_sinks.weight": np.ones(4, np.float32)}), UnsupportedModel, "attn_sinks"),
        (SmallLlama(metadata={"tokenizer.ggml.add_eos_token": True}), UnsupportedModel, "add_eos_token"),
        (SmallLlama(without=["blk.1.attn_v.weight"]), CorruptModel, "self_attn.v_proj.weight"),
        (SmallLlama(metadata={"llama.block_count": 1 << 30}), CorruptModel, "cannot make 1073741824 layers"),
        (SmallLlama(metadata={"llama.context_length": None}), CorruptModel, "no llama.context_length"),
        (SmallLlama(metadata={"llama.feed_forward_length": 97}), CorruptModel, "has the shape"),
        (SmallLlama(metadata={"tokenizer.ggml.eos_token_id": 4000}), CorruptModel, "eos_token_id is 4000"),
        (SmallLlama(metadata={"tokenizer.ggml.merges": ["x yz"]}), CorruptModel, "the merge 'x yz'"),
        (SmallLlama(metadata={"tokenizer.ggml.tokens": ["a", "b"]}), CorruptModel, "2 different tokens"),
    ],
)
def test_what_cannot_be_imported_is_named_before_a_byte_is_written(
    tmp_path: Path, small: SmallLlama, error: type[ModelError], words: str
) -> None:
    with pytest.raises(error, match=words):
        import_small(tmp_path, small)
    assert not (tmp_path / "models").exists()


def test_values_float16_cannot_hold_leave_nothing_behind(tmp_path: Path) -> None:
    small = SmallLlama(type=Type.Q8_0, extra={})
    worth = small.write(tmp_path / "small.gguf")
    small.raw["output_norm.weight"] = (Type.F32, np.full(64, 1e9, np.float32))
    assert worth
    with pytest.raises(UnsupportedModel, match="--type bfloat16"):
        import_small(tmp_path, small, ImportType.KEEP)
    assert list((tmp_path / "models").iterdir()) == []


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    small = SmallLlama()
    small.raw["output_norm.weight"] = (Type.F32, np.full(64, np.nan, np.float32))
    with pytest.raises(CorruptModel, match="output_norm"):
        import_small(tmp_path, small)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_name_that_is_taken_is_refused_and_force_replaces_it(tmp_path: Path) -> None:
    folder, _ = import_small(tmp_path, SmallLlama())
    (folder / "mark").touch()
    with pytest.raises(ModelError, match="--force"):
        import_small(tmp_path, SmallLlama())
    assert (folder / "mark").exists()
    import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", force=True)
    assert not (folder / "mark").exists()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["small"]


def test_an_import_that_is_killed_is_cleared_up_by_the_next_one(tmp_path: Path) -> None:
    SmallLlama().write(tmp_path / "small.gguf")
    code = (
        "import os, sys; from pathlib import Path; from omlx.server.models.importing import import_gguf;"
        "import_gguf(Path(sys.argv[1]), models_folder=Path(sys.argv[2]), progress=lambda *_: os.kill(os.getpid(), 9))"
    )
    models = tmp_path / "models"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "small.gguf"), str(models)], check=False)
    (leftover,) = models.iterdir()
    assert leftover.name.startswith(".small.")
    assert discover([models]) == ()
    (models / "other").mkdir()
    (models / "other").rename(models / leftover.name.replace("small", "other").replace("importing", "replaced"))
    import_gguf(tmp_path / "small.gguf", models_folder=models)
    assert sorted(path.name for path in models.iterdir()) == ["other", "small"]


def test_a_folder_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    SmallLlama().write(tmp_path / "small.gguf")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be written"):
        import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "file" / "models")


def test_force_never_replaces_what_is_no_model(tmp_path: Path) -> None:
    SmallLlama().write(tmp_path / "small.gguf")
    (tmp_path / "models" / "precious").mkdir(parents=True)
    with pytest.raises(ModelError, match="no model folder"):
        import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", name="precious", force=True)
    assert (tmp_path / "models" / "precious").is_dir()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b/c", ".hidden", "a b", "x" * 200, "a\n"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    SmallLlama().write(tmp_path / "small.gguf")
    with pytest.raises(ModelError, match="no model name"):
        import_gguf(tmp_path / "small.gguf", models_folder=tmp_path / "models", name=name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Llama-3.2-1B-Instruct"),
        ("model-f16.gguf", "model"),
        ("my model (1).IQ4_XS.gguf", "my-model-1"),
        ("plain.gguf", "plain"),
    ],
)
def test_the_name_is_the_files_without_its_quantization(file: str, name: str) -> None:
    assert default_name(Path(file)) == name


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    SmallLlama().write(tmp_path / "small.gguf")
    seen: list[tuple[int, int]] = []
    import_gguf(
        tmp_path / "small.gguf",
        models_folder=tmp_path,
        dtype=ImportType.FLOAT32,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_the_automatic_type_is_float32_only_where_there_is_no_gpu() -> None:
    has_gpu = mx.metal.is_available() or mx.cuda.is_available()
    assert resolve_type(ImportType.AUTO) is (ImportType.KEEP if has_gpu else ImportType.FLOAT32)
    assert resolve_type(ImportType.BITS4) is ImportType.BITS4


def test_an_imported_model_is_discovered(tmp_path: Path) -> None:
    import_small(tmp_path, SmallLlama(type=Type.Q4_0), ImportType.KEEP)
    (entry,) = discover([tmp_path / "models"])
    assert (entry.id, entry.architecture, entry.context_window, entry.quantization) == ("small", "llama", 512, "4bit")
