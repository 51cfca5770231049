"""A request's prompt is counted before its model is leased, so that the model has memory for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from omlx.server.engine.process import EngineProcess
from omlx.server.models.lease import Lease

from .serving import serving
from .test_server import CHAT, CHAT_BODY


async def test_a_lease_is_for_a_prompt_of_the_length_that_the_engine_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lengths: list[int] = []
    async with serving(tmp_path, "word") as server:
        take_lease = server.pool.lease

        async def lease(model_id: str, num_prompt_tokens: int = 0) -> Lease[EngineProcess]:
            lengths.append(num_prompt_tokens)
            return await take_lease(model_id, num_prompt_tokens)

        monkeypatch.setattr(server.pool, "lease", lease)
        answer = (await server.client.post(CHAT, json=CHAT_BODY)).json()
    assert lengths == [answer["usage"]["prompt_tokens"]]
