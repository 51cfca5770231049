from __future__ import annotations

from pathlib import Path

import pytest

from omlx.integrations.spec import Model, Surroundings, Target

LARGE = Model("qwen3-coder:30b", 131_072, 32_000, reasoning=True, vision=True)
SMALL = Model("small", 65_536, 16_384)
KEY = "the-key-of-this-launch"


@pytest.fixture
def target() -> Target:
    """A server with two models; the smallest tier has the small one."""
    return Target("http://127.0.0.1:8123", LARGE, LARGE, LARGE, SMALL, (LARGE, SMALL), api_key=KEY)


@pytest.fixture
def surroundings() -> Surroundings:
    """A machine with no files."""
    home = Path("/home/me")
    return Surroundings(
        {}, home, home / "project", home / ".omlx/run/agent", ("-p", "hi"), lambda _: None, lambda *_: ()
    )
