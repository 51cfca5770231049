"""`lm-eval` runs against the server unchanged, over both of OpenAI's endpoints: answers judged, and texts scored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..text_model import byte_tokenizer
from .drivers.driving import MODEL, Server

_TASKS = Path(__file__).parent / "lm_eval"


@pytest.mark.parametrize(
    ("kind", "path", "options"),
    [
        ("local-completions", "completions", []),
        ("local-chat-completions", "chat/completions", ["--apply_chat_template"]),
    ],
)
def test_two_of_three_answers_are_scored_right(
    kind: str, path: str, options: list[str], matrix_server: Server, clients: Path, tmp_path: Path
) -> None:
    model_args = f"base_url={matrix_server.url}/v1/{path},tokenizer_backend=None,num_concurrent=2"
    results = _run(clients / "lm_eval", matrix_server, tmp_path, kind, model_args, "greeting", options)

    assert results["greeting"]["exact_match,none"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("batch_size", ["1", "4"])
def test_continuations_are_scored_by_the_log_probabilities_of_their_tokens(
    batch_size: str, matrix_server: Server, clients: Path, tmp_path: Path
) -> None:
    """Prompts go as lists of token ids, echoed with their log probabilities, `batch_size` in a request."""
    tokenizer = byte_tokenizer()
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    model_args = f"base_url={matrix_server.url}/v1/completions,tokenizer={tmp_path / 'tokenizer'}"
    options = ["--log_samples", "--batch_size", batch_size]
    results = _run(clients / "lm_eval", matrix_server, tmp_path, "local-completions", model_args, "spelling", options)

    assert results["spelling"]["acc,none"] == pytest.approx(2 / 3)
    (samples,) = (tmp_path / "results").rglob("samples_spelling_*.jsonl")
    for sample in map(json.loads, samples.read_text().splitlines()):
        scores = [float(value) for value, _ in sample["filtered_resps"]]
        expected = [-sum(tokenizer.encode(f" {choice}").ids) / 1000 for choice in sample["doc"]["choices"]]
        assert scores == pytest.approx(expected)


def _run(
    lm_eval: Path, server: Server, folder: Path, kind: str, model_args: str, task: str, options: list[str]
) -> dict[str, Any]:
    """The scores by task."""
    shutil.copytree(_TASKS, folder, dirs_exist_ok=True)
    command = [str(lm_eval), "--model", kind, "--model_args", f"model={MODEL},{model_args}", "--tasks", task]
    command += ["--include_path", str(folder), "--output_path", str(folder / "results"), *options]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": server.key}
    done = subprocess.run(command, cwd=folder, env=os.environ | offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    (results,) = (folder / "results").rglob("results_*.json")
    return json.loads(results.read_text())["results"]
