"""The server that the load of `load` goes to: `python -m tests.torture.load_server HOME`.

Without `--model FOLDER` its engine writes to each prompt `answer_to` it, so that a token lost, doubled or given to
another request shows; it notes when each request's row was freed in HOME/freed. With it, it is MLX on that model.
When it ends it prints, as JSON, what it still held.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import resource
import socket
import sys
import time
from pathlib import Path

import msgspec
import tokenizers

from omlx.server.app import create_app
from omlx.server.engine import model_text
from omlx.server.engine.messages import Submit
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.worker import run, set_signals
from omlx.server.errors import ShuttingDown
from omlx.server.http_server import HttpServer
from omlx.server.prompts import tokenizer
from omlx.server.serving import find_models, listen, make_pool, mlx_engine_command
from omlx.server.settings import ServeSettings
from omlx.server.settings.model_store import ModelSettingsStore
from omlx.server.settings.values import CacheSettings

from ..engine.scripted_batch import ScriptedBatch
from ..text_model import END_OF_TURN, build_text_model, byte_tokenizer

MODEL = "tiny"
_ASKED = re.compile(r"say (\w+) times (\d+)")
_STEP_SECONDS = 0.002
_PREFILL_SECONDS_PER_TOKEN = 20e-6


def answer_to(prompt: str) -> str:
    """To `say WORD times N`: WORD with a number, N times."""
    word, count = _ASKED.findall(prompt)[-1]
    return " ".join(f"{word}{number}" for number in range(int(count)))


class WordyBatch(ScriptedBatch):
    """Answers by `answer_to`, and takes its time for prompts and steps as a device does."""

    def __init__(self, freed: Path) -> None:
        self._tokenizer = with_few_words(byte_tokenizer())
        self._freed = freed.open("a", buffering=1)
        self._words: dict[str, str] = {}
        super().__init__([self._tokenizer.encode(END_OF_TURN).ids])

    def match(self, request: Submit) -> int:
        del request
        return 0

    def open(self, request: Submit) -> int:
        super().open(request)
        self.opened.clear()
        prompt = self._tokenizer.decode(request.token_ids, skip_special_tokens=False)
        self._words[request.request_id] = _ASKED.findall(prompt)[-1][0]
        self._answers[request.request_id] = self._tokenizer.encode(answer_to(prompt) + END_OF_TURN).ids
        return 0

    def bound_prefixes(self, num_bytes: int) -> None:
        """Keeps no list of it, as no list below is kept: what grows in a soak would be the script's."""

    def prefill(self, request_id: str, count: int) -> list[int]:
        time.sleep(count * _PREFILL_SECONDS_PER_TOKEN)
        token_ids = super().prefill(request_id, count)
        self._history.clear()
        self.chunks.clear()
        return token_ids

    def decode(self) -> dict[str, list[int]]:
        time.sleep(_STEP_SECONDS)
        return super().decode()

    def release(self, request_id: str) -> None:
        if request_id not in self._requests:
            return
        phase = "decode" if self._ready(request_id) else "prefill"
        print(self._words.pop(request_id), time.monotonic(), phase, file=self._freed)
        super().release(request_id)
        self.released.clear()
        del self._answers[request_id], self._positions[request_id]
        self._latest.pop(request_id, None)


def with_few_words(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """With room for a hundred words in its cache, not ten thousand: full at once, so that what grows is no cache."""
    model = backend.model
    model._resize_cache(100)
    backend.model = model
    return backend


class FewWords(tokenizer.Tokenizer):
    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        super().__init__(with_few_words(backend))


def main() -> int:
    if sys.argv[1] == "--engine":
        set_signals()
        freed = Path(sys.argv[2])
        return run(socket.socket(fileno=int(sys.argv[4])), lambda: WordyBatch(freed))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("home", type=Path)
    arguments.add_argument("--model", type=Path, help="a folder with a real model")
    arguments.add_argument("--window", type=int, default=16_384, help="of the model that is none, in tokens")
    arguments.add_argument("--address-space", type=int, default=0, help="bytes, of each process")
    arguments.add_argument("--prefix-bytes", type=int, help="memory for prefixes; 0 keeps none, on disk neither")
    arguments.add_argument("--disk-bytes", type=int, help="disk for prefixes")
    arguments.add_argument("--send-buffer", type=int, help="bytes of an answer that the kernel takes")
    given = arguments.parse_args()
    told = logging.StreamHandler()  # the ring of the admin pages would otherwise be all that hears of an engine's end
    told.setLevel(logging.WARNING)
    logging.basicConfig(handlers=[told])
    if given.address_space:
        resource.setrlimit(resource.RLIMIT_AS, (given.address_space, given.address_space))
    tokenizer._CACHED_CHARACTERS = 50_000  # as `with_few_words`
    model_text.Tokenizer = FewWords
    home: Path = given.home
    model: Path = given.model or home / "models" / MODEL
    if given.model is None:
        build_text_model(model, given.window)
    cache = CacheSettings(enabled=given.prefix_bytes != 0, ram_bytes=given.prefix_bytes)
    if given.disk_bytes is not None:
        cache = msgspec.structs.replace(cache, ssd_bytes=given.disk_bytes)
    settings = ServeSettings(home, (model.parent,), port=0, cache=cache)
    argv = [sys.executable, "-m", "tests.torture.load_server", "--engine", str(home / "freed")]
    wordy = EngineCommand(argv, {"PYTHONPATH": str(Path(__file__).parents[2])})
    command_of = mlx_engine_command(settings) if given.model else lambda _: wordy
    with listen(settings.host, settings.port) as listener:
        if given.send_buffer is not None:  # what a listener accepts inherits it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, given.send_buffer)
        pool = make_pool(find_models(settings), command_of, ModelSettingsStore(settings.settings_file))
        app = create_app(settings, pool, "torture")
        held = {}

        def drain() -> None:
            held["streams"] = sum(len(engine._streams) for engine in pool.engines.values())
            held["leases"] = sum(loaded.num_leases for loaded in pool._loaded.values())
            pool.drain()

        server = HttpServer(app, drain, lambda: pool.fail_requests(ShuttingDown("the load is over")), 1.0)
        print(listener.getsockname()[1], flush=True)
        server.run(sockets=[listener])
    print(json.dumps(held), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
