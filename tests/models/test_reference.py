"""The embedded model, imported, against independent readers of the same GGUF (see make_reference.py)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from omlx.server.engine.blas import engine_environment
from omlx.server.models.embedded import PACKAGE, find_embedded_gguf
from omlx.server.models.gguf import GgufFile, read_gguf
from omlx.server.models.gguf_tokenizer import convert_tokenizer
from omlx.server.models.importing import ImportType, import_gguf

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))
LIVE_PACKAGES = ("torch", "transformers", "accelerate", "gguf")


@pytest.fixture(scope="module")
def gguf() -> Path:
    path = find_embedded_gguf()
    if path is None:
        pytest.skip(f"the package {PACKAGE} is not installed (make setup installs it)")
    return path


@pytest.fixture(scope="module")
def header(gguf: Path) -> GgufFile:
    return read_gguf(gguf)


@pytest.fixture(scope="module")
def imported(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = import_gguf(gguf, models_folder=tmp_path_factory.mktemp("models"), dtype=ImportType.FLOAT32)
    yield folder
    shutil.rmtree(folder)


def choose(folder: Path, answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.models.greedy_child", str(folder)],
        input=json.dumps([[answer["token_ids"], answer["written"]] for answer in answers]),
        env=engine_environment(os.environ),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def encode(header: GgufFile, pre_tokenizer: str) -> list[list[int]]:
    """Our token ids of the reference's texts, the embedded vocabulary split as `pre_tokenizer` says."""
    changed = replace(header, metadata={**header.metadata, "tokenizer.ggml.pre": pre_tokenizer})
    converted = convert_tokenizer(changed, 8192, 49152)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(converted.tokenizer))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in REFERENCE["texts"]]


def test_the_reference_was_made_from_this_file(gguf: Path) -> None:
    assert hashlib.sha256(gguf.read_bytes()).hexdigest() == REFERENCE["sha256"]


def test_prompts_have_the_token_ids_transformers_gives(header: GgufFile) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(convert_tokenizer(header, 8192, 49152).tokenizer))
    for answer in REFERENCE["answers"]:
        assert tokenizer.encode(answer["prompt"], add_special_tokens=False).ids == answer["token_ids"]


@pytest.mark.parametrize("pre_tokenizer", sorted(REFERENCE["token_ids"]))
def test_texts_have_the_token_ids_llama_cpp_gives(header: GgufFile, pre_tokenizer: str) -> None:
    expected = REFERENCE["token_ids"][pre_tokenizer]
    for text, ours, theirs in zip(REFERENCE["texts"], encode(header, pre_tokenizer), expected, strict=True):
        # Qwen's own tokenizer composes characters first (NFC), which llama.cpp leaves out.
        if not (pre_tokenizer == "qwen2" and "\u0301" in text):
            assert ours == theirs, text


def test_texts_come_back_from_their_token_ids(imported: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(imported / "tokenizer.json"))
    for text in REFERENCE["texts"]:
        token_ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(token_ids, skip_special_tokens=False) == text


def test_the_model_chooses_the_tokens_transformers_chooses(imported: Path) -> None:
    """Greedy, token by token: the same choice at each position after the same tokens is the same answer."""
    for answer, ours in zip(REFERENCE["answers"], choose(imported, REFERENCE["answers"]), strict=True):
        assert len(answer["written"]) >= 32
        assert ours["choices"] == answer["written"], answer["prompt"]
        for token_id, expected in answer["logits"].items():
            assert abs(ours["logits"][int(token_id)] - expected) < 2e-3, answer["prompt"]


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, LIVE_PACKAGES)),
    reason=f"the live comparison needs {', '.join(LIVE_PACKAGES)}; the committed values stand in for it",
)
def test_transformers_still_says_what_the_reference_says(gguf: Path) -> None:
    code = (
        "import json, pathlib, sys; from tests.models.make_reference import answers; print(json.dumps(answers({}, 1)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code.format("pathlib.Path(sys.argv[1])"), str(gguf)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (live,) = json.loads(result.stdout.splitlines()[-1])
    committed = REFERENCE["answers"][0]
    assert live["written"] == committed["written"]
    assert live["logits"] == pytest.approx(committed["logits"], abs=2e-3)
