"""A launch after a restart: the agent's system prompt and tools come from disk before it asks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..tiny_model import build_tiny_model, needs_embedded_model
from ..waiting import wait_until
from .harness import OMLX, Outcome, make_bench
from .wordy_model import build_wordy_model

pytestmark = [pytest.mark.e2e, needs_embedded_model]

KEY = {"authorization": "Bearer the-key-of-this-launch"}


@contextmanager
def served(home: Path, models: Path) -> Iterator[httpx.Client]:
    state = home / "run" / "server.json"
    environment = {**os.environ, "OMLX_HOME": str(home)}
    with (home / "log").open("ab") as log:
        command = [OMLX, "serve", "--model-dir", str(models), "--port", "0"]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(state.is_file)
        with httpx.Client(base_url=json.loads(state.read_text())["url"], headers=KEY, timeout=60) as client:
            yield client
    finally:
        server.terminate()
        server.wait(60)


def ask(client: httpx.Client, text: str) -> int:
    """How many tokens of the prompt were cached."""
    messages = [
        {"role": "system", "content": "You are an agent of many words. " * 100},
        {"role": "user", "content": text},
    ]
    body = {"model": "tiny", "messages": messages, "max_tokens": 4}
    answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_the_first_request_after_a_restart_finds_its_opening_in_memory(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "models" / "tiny")
    announcement = {"agent": "pi", "model": "tiny"}
    with served(tmp_path, tmp_path / "models") as client:
        client.post("/v1/launches", json=announcement).raise_for_status()
        cold = ask(client, "What is this?")
        wait_until(lambda: len(list((tmp_path / "cache").rglob("*.safetensors"))) >= 3)
    with served(tmp_path, tmp_path / "models") as client:
        launch = client.post("/v1/launches", json=announcement).raise_for_status().json()
        told: dict = {}

        def restored() -> bool:
            told.update(client.get(f"/v1/launches/{launch['id']}").raise_for_status().json())
            return told["state"] == "ready" and told["num_cached_tokens"] > 0

        wait_until(restored)
        wait_until(lambda: client.get("/health").json()["num_running"] == 0)
        warm = ask(client, "And something else?")

    assert cold == 0
    assert told["num_opening_tokens"] > 600
    assert told["num_cached_tokens"] >= 512, "the opening's full blocks came from disk"
    assert warm >= told["num_opening_tokens"]


def test_the_first_answer_of_a_launched_agent_starts_warm_after_a_restart(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, "pi")
    model = build_wordy_model(tmp_path / "models" / "wordy")
    serve = [OMLX, "serve", "--model-dir", str(model.parent), "--port", "0"]
    launch = ["launch", "pi", "--model", model.name, "--", "--no-session", "-p"]

    cold = bench.run(serve, [*launch, "Say something."])
    warm = bench.run(serve, [*launch, "Say something else."])

    assert [outcome.runs[0].exit_code for outcome in (cold, warm)] == [0, 0], f"{cold}\n{warm}"
    assert cached_tokens(cold) == 0
    told = [json.loads(each.answer) for each in warm.exchanges if each.path.startswith("/v1/launches/")]
    assert told[-1]["num_cached_tokens"] >= 512, "the launch itself brought the opening's blocks from disk"
    assert cached_tokens(warm) >= told[-1]["num_cached_tokens"]
    assert warm.server_exit_code == 0, warm.server_log


def cached_tokens(outcome: Outcome) -> int:
    """How much of the agent's first prompt was cached, as its first answer's stream says."""
    first = outcome.posts("/v1/chat/completions")[0]
    records = [line.removeprefix("data: ") for line in first.answer.splitlines() if line.startswith("data: {")]
    (usage,) = [found for record in records if (found := json.loads(record).get("usage"))]
    return usage["prompt_tokens_details"]["cached_tokens"]
