"""Encoders give what transformers give (`make_encoder_reference`), in any company and with any pooling."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from omlx.server.engine.messages import EncoderInput
from omlx.server.errors import CorruptModel, UnsupportedModel
from omlx.server.models.catalog import ModelKind, read_entry
from omlx.server.models.encoders.description import Pooling, read_encoding
from omlx.server.models.encoders.loading import TextEncoder, load_encoder

from .make_encoder_reference import REFERENCE
from .random_encoders import CONFIGS, HIDDEN, PAIRS, ROWS, build

EXPECTED = json.loads(REFERENCE.read_text())
POOLINGS = {"cls_token": 0, "mean_tokens": 1, "lasttoken": 2}


def modules(pooling: str) -> dict[str, object]:
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    return {
        "modules.json": [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names],
        "1_Pooling/config.json": {"word_embedding_dimension": HIDDEN}
        | {f"pooling_mode_{name}": name == pooling for name in POOLINGS},
    }


def loaded(folder: Path, name: str, pooling: str = "") -> TextEncoder:
    path = build(folder / name, CONFIGS[name], modules(pooling) if pooling else None)
    return load_encoder(path, read_entry(path, name).kind)


def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ["bert", "xlm-roberta", "modernbert", "Tiny-Embedding"])
def test_a_text_is_the_pooled_vectors_of_its_tokens(name: str, pooling: str, tmp_path: Path):
    found = np.array(loaded(tmp_path, name, pooling).encode([EncoderInput(row, [0] * len(row)) for row in ROWS]))

    for vector, row in zip(found, EXPECTED[name], strict=True):
        tokens = np.array(row).reshape(-1, HIDDEN)
        pooled = (tokens[0], tokens.mean(axis=0), tokens[-1])[POOLINGS[pooling]]
        np.testing.assert_allclose(vector, unit(pooled), atol=2e-5)


@pytest.mark.parametrize("name", ["bert-reranker", "xlm-roberta-reranker", "modernbert-reranker", "qwen3-labels"])
def test_a_pair_is_scored_by_its_classifier(name: str, tmp_path: Path):
    found = np.array(loaded(tmp_path, name).encode([EncoderInput(*pair) for pair in PAIRS]))

    logits = np.array(EXPECTED[name])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=2e-5)


def test_a_language_model_scores_by_its_yes_against_its_no(tmp_path: Path):
    found = np.array(loaded(tmp_path, "Tiny-Reranker").encode([EncoderInput(row) for row in ROWS]))

    for score, logits in zip(found, EXPECTED["Tiny-Reranker"], strict=True):
        yes, no = np.exp(logits[4]), np.exp(logits[5])
        assert score == pytest.approx([yes / (yes + no)], abs=2e-5)


def test_the_kinds_are_told_by_what_the_folders_say(tmp_path: Path):
    kinds = {name: read_entry(build(tmp_path / name, config), name).kind for name, config in CONFIGS.items()}

    assert kinds == {
        "bert": ModelKind.EMBEDDING,
        "xlm-roberta": ModelKind.EMBEDDING,
        "bert-reranker": ModelKind.RERANKER,
        "xlm-roberta-reranker": ModelKind.RERANKER,
        "Tiny-Embedding": ModelKind.EMBEDDING,
        "Tiny-Reranker": ModelKind.RERANKER,
        "modernbert": ModelKind.EMBEDDING,
        "modernbert-reranker": ModelKind.RERANKER,
        "qwen3-labels": ModelKind.RERANKER,
    }


def test_without_a_word_on_pooling_encoders_take_the_mean_and_language_models_the_last(tmp_path: Path):
    names = ("xlm-roberta", "modernbert", "Tiny-Embedding")
    described = [read_encoding(build(tmp_path / name, CONFIGS[name])) for name in names]

    assert [each.pooling for each in described] == [Pooling.MEAN, Pooling.MEAN, Pooling.LAST]
    assert [each.max_tokens for each in described] == [36, 120, 120], "RoBERTa's positions begin behind the padding's"


def test_a_pooling_that_is_not_here_is_named(tmp_path: Path):
    path = build(tmp_path / "bert", CONFIGS["bert"], modules("max_tokens"))
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')

    with pytest.raises(UnsupportedModel, match="pooling_mode_max_tokens"):
        read_encoding(path)


@pytest.mark.parametrize("kind", ["sentence_transformers.models.LSTM", "custom_code.Pooling"])
def test_a_module_that_is_not_here_is_named(kind: str, tmp_path: Path):
    other = {"modules.json": [{"path": "2_Other", "type": kind}]}

    with pytest.raises(UnsupportedModel, match=kind):
        read_encoding(build(tmp_path / "bert", CONFIGS["bert"], other))


def with_dense(folder: Path, *activations: str) -> list[NDArray[np.float32]]:
    """Adds projections to the model in the folder, and gives their weights."""
    listed = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    random, weights = np.random.default_rng(5), list[NDArray[np.float32]]()
    for number, activation in enumerate(activations, 2):
        path = f"{number}_Dense"
        listed.append({"path": path, "type": "sentence_transformers.models.Dense"})
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps({"activation_function": activation}))
        weights.append(random.standard_normal((HIDDEN, HIDDEN)).astype(np.float32))
        mx.save_safetensors(str(folder / path / "model.safetensors"), {"linear.weight": mx.array(weights[-1])})
    (folder / "modules.json").write_text(json.dumps(listed))
    return weights


def test_the_pooled_vector_is_projected(tmp_path: Path):
    path = build(tmp_path / "bert", CONFIGS["bert"])
    activations = ("torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh")
    first, second = with_dense(path, *activations)
    found = np.array(load_encoder(path, ModelKind.EMBEDDING).encode([EncoderInput(row) for row in ROWS]))

    for vector, row in zip(found, EXPECTED["bert"], strict=True):
        pooled = np.array(row).reshape(-1, HIDDEN).mean(axis=0)
        np.testing.assert_allclose(vector, unit(np.tanh(second @ (first @ pooled))), atol=1e-4)


def test_a_projection_that_is_not_here_is_named(tmp_path: Path):
    path = build(tmp_path / "bert", CONFIGS["bert"])
    with_dense(path, "torch.nn.modules.activation.Mish")
    with pytest.raises(UnsupportedModel, match="Mish"):
        load_encoder(path, ModelKind.EMBEDDING)

    (path / "2_Dense" / "model.safetensors").rename(path / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match=r"no model\.safetensors"):
        read_encoding(path)


@pytest.mark.parametrize("fields", [{"use_bidirectional_attention": True}, {"is_causal": False}])
def test_a_language_model_that_looks_ahead_is_refused(fields: dict[str, bool], tmp_path: Path):
    path = build(tmp_path / "Tiny-Embedding", CONFIGS["Tiny-Embedding"] | fields)
    with pytest.raises(UnsupportedModel, match="see those behind them"):
        read_encoding(path)


def test_a_language_model_that_embeds_needs_no_head(tmp_path: Path):
    """Qwen3-Embedding-8B says that its head is not its embedding, and has none."""
    tied = loaded(tmp_path, "Tiny-Embedding")
    path = build(tmp_path / "Untied-Embedding", CONFIGS["Tiny-Embedding"] | {"tie_word_embeddings": False})
    untied = load_encoder(path, ModelKind.EMBEDDING)
    inputs = [EncoderInput(row) for row in ROWS]
    np.testing.assert_allclose(np.array(untied.encode(inputs)), np.array(tied.encode(inputs)), atol=1e-6)


def test_an_architecture_that_is_not_here_is_named(tmp_path: Path):
    path = build(tmp_path / "bert", CONFIGS["bert"])
    config = json.loads((path / "config.json").read_text()) | {"model_type": "nomic_bert"}
    (path / "config.json").write_text(json.dumps(config))

    with pytest.raises(UnsupportedModel, match="nomic_bert"):
        load_encoder(path, ModelKind.EMBEDDING)


def test_weights_that_are_missing_are_told(tmp_path: Path):
    path = build(tmp_path / "bert", CONFIGS["bert"])
    weights = mx.load(str(path / "model.safetensors"))
    assert isinstance(weights, dict)
    mx.save_safetensors(str(path / "model.safetensors"), {name: weights[name] for name in list(weights)[3:]})

    with pytest.raises(CorruptModel, match="fit together"):
        load_encoder(path, ModelKind.EMBEDDING)


@pytest.mark.parametrize("name", ["bert", "Tiny-Embedding"])
def test_weights_that_were_cut_short_since_the_folder_was_found_never_reach_mlx(name: str, tmp_path: Path):
    path = build(tmp_path / name, CONFIGS[name])
    kind = read_entry(path, name).kind
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])

    with pytest.raises(CorruptModel, match="the file holds"):
        load_encoder(path, kind)
