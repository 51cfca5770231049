"""The server's own commands, which the process becomes."""

from __future__ import annotations

import os
import signal

import pytest
from click.testing import CliRunner

from omlx.launcher.cli import commands


def test_signals_wait_for_a_server_until_it_hears_them_and_for_no_other_command(monkeypatch: pytest.MonkeyPatch):
    held: dict[str, set[signal.Signals]] = {}

    def execv(_path: str, argv: list[str]) -> None:
        held[argv[-1]] = {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}
        raise SystemExit

    monkeypatch.setattr(os, "execv", execv)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for name in ("list", "serve"):
            CliRunner().invoke(commands, [name])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert held["serve"] - held["list"] == {signal.SIGINT, signal.SIGTERM}
