"""`lm-eval` runs against the server unchanged, over both of OpenAI's endpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
    shutil.copytree(_TASKS, tmp_path, dirs_exist_ok=True)
    model_args = f"model={MODEL},base_url={matrix_server.url}/v1/{path},tokenizer_backend=None,num_concurrent=2"
    command = [str(clients / "lm_eval"), "--model", kind, "--model_args", model_args, "--tasks", "greeting"]
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "results"), *options]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": matrix_server.key}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | offline, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr[-4000:]
    (results,) = (tmp_path / "results").rglob("results_*.json")
    scores = json.loads(results.read_text())["results"]["greeting"]
    assert scores["exact_match,none"] == pytest.approx(2 / 3)
