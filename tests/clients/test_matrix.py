"""Every client, every case: what people's programs get from the server through the libraries they use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from .drivers.driving import Server
from .running import ROOT
from .script import OUTCOMES

_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Client:
    """A driver and its arguments. `is_own`: its client is among the project's own development packages. `errors` are
    types of its own, by case; `shows_headers`: its errors hold the answer's."""

    name: str
    driver: str
    arguments: tuple[str, ...] = ()
    is_own: bool = False
    errors: tuple[tuple[str, str], ...] = ()
    shows_headers: bool = True


_OF_ANTHROPIC = (("too_large", "ContentTooLargeError"), ("busy", "ServiceUnavailableError"))
_OF_LITELLM = (
    ("overflow", "ContextWindowExceededError"),
    ("too_large", "BadRequestError"),
    ("broken_stream", "MidStreamFallbackError"),
)

CLIENTS = (
    Client("openai, chat", "openai_chat", is_own=True),
    Client("openai, responses", "openai_responses", is_own=True, errors=(("broken_stream", "response.failed"),)),
    Client("anthropic, messages", "anthropic_messages", is_own=True, errors=_OF_ANTHROPIC),
    Client("openai 2, chat", "openai_chat"),
    Client(
        "litellm, chat",
        "litellm_chat",
        errors=(*_OF_LITELLM, ("busy", "ServiceUnavailableError")),
        shows_headers=False,
    ),
    Client("litellm, messages", "litellm_chat", ("anthropic",), errors=_OF_LITELLM, shows_headers=False),
    Client("langchain-openai, chat", "langchain_chat", errors=(("overflow", "OpenAIContextOverflowError"),)),
    Client("llm, chat", "llm_chat"),
)


@cache
def outcomes(client: Client, python: str, server: Server) -> dict[str, Any]:
    """What each case came to: one run of the client's driver."""
    command = [python, "-m", f"tests.clients.drivers.{client.driver}", server.url, server.key, *client.arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=_SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", OUTCOMES)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_what_it_asked_for(
    client: Client, case: str, matrix_server: Server, request: pytest.FixtureRequest
) -> None:
    programs: Path = Path(sys.executable).parent if client.is_own else request.getfixturevalue("clients")
    found = outcomes(client, str(programs / "python"), matrix_server)[case]

    expected = OUTCOMES[case]
    if "error" in expected:
        assert dict(client.errors).get(case, expected["error"]) in found.get("error", []), found
        assert expected.get("says", "") in found["message"]
        if client.shows_headers:
            assert found.get("retry_after") == expected.get("retry_after")
    else:
        assert found == expected
