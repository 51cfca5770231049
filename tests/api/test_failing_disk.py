"""A cache folder that fails while the server answers: HTTP, a real engine, and a small model."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from omlx.server.engine.process import EngineCommand
from omlx.server.models.catalog import ModelEntry
from omlx.server.serving import EngineCommandFor, mlx_engine_command
from omlx.server.settings import ServeSettings

from ..tiny_model import build_tiny_model, needs_embedded_model
from .serving import Serving, serving
from .test_server import CHAT

pytestmark = needs_embedded_model

NAME = "small"
_ROOT = Path(__file__).parents[2]


def on_failing_disk(folder: Path) -> EngineCommandFor:
    real = mlx_engine_command(ServeSettings(home=folder, model_dirs=()))

    def command(entry: ModelEntry) -> EngineCommand:
        given = real(entry)
        python, _, _, _, *arguments = given.argv
        argv = [python, "-m", "tests.engine.failing_disk_engine", str(folder / "error"), *arguments]
        return replace(given, argv=argv, environment={**given.environment, "PYTHONPATH": str(_ROOT)})

    return command


async def ask(server: Serving, word: str) -> str:
    """The answer to a prompt of more than one block."""
    messages = [{"role": "user", "content": f"{word} " * 300}]
    body = {"model": NAME, "messages": messages, "max_tokens": 8, "temperature": 0}
    answer = (await server.client.post(CHAT, json=body)).raise_for_status().json()
    return answer["choices"][0]["message"]["content"]


@contextmanager
def refused(folder: Path, error: int) -> Iterator[None]:
    (folder / "error").write_text(str(error))
    yield
    (folder / "error").unlink()


async def test_answers_go_on_health_says_why_and_all_is_well_again_with_the_disk(tmp_path: Path):
    build_tiny_model(tmp_path / "models" / NAME, context_window=4096)
    cache, away = tmp_path / "cache", tmp_path / "away"
    new_words = map(str, itertools.count())
    async with serving(tmp_path, "unused", engine_command=on_failing_disk(tmp_path)) as server, asyncio.timeout(240):

        async def told(reason: str) -> None:
            """Go on asking until this is what /health says is wrong; "" where nothing is."""
            why = f"{cache} cannot be used: {reason}; " if reason else ""
            while True:
                health = (await server.client.get("/health")).json()
                said = health["cache_trouble"].get(NAME, "")
                if said.startswith(why) and bool(said) == bool(why):
                    break
                assert (await server.client.get("/ready")).status_code == 200
                await ask(server, next(new_words))
            assert health["status"] == ("degraded" if reason else "ok")
            assert await ask(server, "hello") == before

        async def recovers() -> None:
            num_blocks = len(list(cache.rglob("*.safetensors")))
            await told("")
            assert len(list(cache.rglob("*.safetensors"))) > num_blocks

        before = await ask(server, "hello")
        read_only, full = (os.strerror(error) for error in (errno.EROFS, errno.ENOSPC))
        for error, reason in ((errno.EROFS, read_only), (errno.ENOSPC, full)):
            with refused(tmp_path, error):
                await told(reason)
            await recovers()
        with refused(tmp_path, errno.EROFS):
            await told(read_only)
            cache.rename(away)
            cache.write_text("in the way")
        await told(f"{cache} is no folder")
        with refused(tmp_path, errno.EROFS):
            await told(read_only)
            cache.unlink()
            away.rename(cache)
        await recovers()
        cache.rename(away)
        while not list(cache.rglob("*.safetensors")):
            await ask(server, next(new_words))
        await told("")
