"""The launcher, run as a program of its own: the server knows it by its command line alone."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CODE = "from omlx.launcher.cli import main; main()"
_ELSEWHERE = ("OMLX_URL",)


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    output: bytes
    errors: str


async def run_omlx(home: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
    """Run `omlx ARGUMENTS` on this home, and wait for it; it ends when this is cancelled."""
    environment = {name: value for name, value in (environ or os.environ).items() if name not in _ELSEWHERE}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _CODE,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "OMLX_HOME": str(home), "NO_COLOR": "1"},
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ran(process.returncode, output, errors.decode(errors="replace"))
