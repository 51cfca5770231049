"""The real engine process on a model folder: it loads, answers, and reports what it cannot load."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from mlx.utils import tree_flatten

from omlx.server.engine.messages import Batching, EngineFailed, EngineMessage, EngineReady, Loading, StepOutput
from omlx.server.engine.wire import frame, read_frame

from .tiny_model import VOCABULARY, greedy_solo, prompt_of, submit, tiny_llama

decoder = msgspec.msgpack.Decoder(EngineMessage)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    mx.save_safetensors(
        str(path / "model.safetensors"), dict(tree_flatten(tiny_llama().parameters())), {"format": "mlx"}
    )
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
    }
    (path / "config.json").write_text(json.dumps(config))
    return path


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with theirs:
        argv = [sys.executable, "-m", "omlx.server.engine", "--model", str(folder), "--fd", str(theirs.fileno())]
        child = subprocess.Popen([*argv, *options], pass_fds=[theirs.fileno()])
    with ours:
        try:
            yield child, ours
        finally:
            ours.close()
            child.wait(60)


def receive(connection: socket.socket) -> EngineMessage:
    """The next message, what is told of loading and batching left out."""
    message: EngineMessage = Batching("")
    while isinstance(message, Batching | Loading):
        payload = read_frame(connection)
        assert payload is not None
        message = decoder.decode(payload)
    return message


def test_it_answers_like_the_model_survives_ctrl_c_and_ends_with_its_parent(folder: Path):
    with process(folder) as (child, connection):
        ready = receive(connection)
        assert isinstance(ready, EngineReady)
        assert ready.weight_bytes > 0
        assert resource.prlimit(child.pid, resource.RLIMIT_CORE) == (0, 0)
        child.send_signal(signal.SIGINT)
        connection.sendall(frame(submit("a", prompt_of(20))))
        token_ids: list[int] = []
        finished = None
        while not finished:
            message = receive(connection)
            assert isinstance(message, StepOutput)
            token_ids += message.updates[0].token_ids
            finished = message.updates[0].finish_reason
        assert token_ids == greedy_solo(tiny_llama(), prompt_of(20), 8)
    assert child.returncode == 0


def test_a_prompt_is_warm_after_a_restart(folder: Path, tmp_path: Path):
    cached = []
    for _ in range(2):
        with process(folder, "--cache-dir", str(tmp_path), "--cache-bytes", "100000000") as (_, connection):
            receive(connection)
            connection.sendall(frame(submit("a", prompt_of(600), 1)))
            message = receive(connection)
            while not (isinstance(message, StepOutput) and message.updates and message.updates[0].finish_reason):
                message = receive(connection)
            cached.append(message.updates[0].num_cached_tokens)
            connection.sendall(frame(submit("b", prompt_of(600), 1)))
            while not (isinstance(message, StepOutput) and message.updates and message.updates[0].request_id == "b"):
                message = receive(connection)
    assert cached == [0, 599]


def test_an_engine_whose_server_has_gone_does_not_load_to_the_end(tmp_path: Path):
    os.mkfifo(tmp_path / "config.json")  # who reads it waits for ever
    with process(tmp_path) as (child, _):
        pass
    assert child.returncode == 0


def test_a_folder_without_a_model_is_reported(tmp_path: Path):
    with process(tmp_path) as (child, connection):
        assert isinstance(receive(connection), EngineFailed)
    assert child.returncode == 1
