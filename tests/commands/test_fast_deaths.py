"""A service that keeps dying is not started once more, and the log says why."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from omlx.server.errors import SettingsError
from omlx.server.fast_deaths import FAST_SECONDS, MAX_FAST_DEATHS, FastDeaths, is_started_by_system

from .conftest import Run


def test_a_service_that_keeps_dying_ends_well_with_the_reason_in_the_log(run: Run, home: Path):
    home.mkdir()
    (home / "settings.json").write_text('{"server": {"port": "x"}}')
    for _ in range(MAX_FAST_DEATHS):
        with pytest.raises(SettingsError, match=r"server\.port"):
            run("serve", "--service")
    assert run("serve", "--service").exit_code == 0
    log = (home / "logs" / "server.log").read_text()
    assert "died 3 times in a row, each within a minute of its start" in log
    assert "server.port is 'x'" in log
    with pytest.raises(SettingsError):
        run("serve", "--service")  # a person started it again


def test_serve_counts_too_where_the_system_itself_started_it(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    home.mkdir()
    (home / "settings.json").write_text('{"server": {"port": "x"}}')
    for _ in range(MAX_FAST_DEATHS):
        with pytest.raises(SettingsError, match=r"server\.port"):
            run("serve")
    assert run("serve").exit_code == 0
    assert "`brew services restart omlx`" in (home / "logs" / "server.log").read_text()
    monkeypatch.delenv("SYSTEMD_EXEC_PID")
    for _ in range(MAX_FAST_DEATHS + 1):
        with pytest.raises(SettingsError):
            run("serve")


def test_a_service_that_is_told_to_stop_while_it_starts_has_not_died(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("omlx.server.serving.serve", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    for _ in range(MAX_FAST_DEATHS + 1):
        assert run("serve", "--service").exit_code == 0
    assert not (home / "logs").exists()


@pytest.mark.parametrize(
    ("environ", "parent", "expected"),
    [
        ({"XPC_SERVICE_NAME": "homebrew.mxcl.omlx"}, 1, True),
        ({"XPC_SERVICE_NAME": "application.com.apple.Terminal"}, 512, False),
        ({"XPC_SERVICE_NAME": "0"}, 1, False),
        ({"SYSTEMD_EXEC_PID": "77"}, 900, True),
        ({"SYSTEMD_EXEC_PID": "76"}, 900, False),
        ({}, 1, False),
    ],
)
def test_a_service_is_told_from_a_terminal_of_the_systems(environ: dict[str, str], parent: int, expected: bool):
    assert is_started_by_system(environ, 77, parent) is expected


def test_a_good_end_or_a_long_life_makes_it_no_row(tmp_path: Path):
    now = 1000.0
    deaths = FastDeaths(tmp_path / "run" / "starts.json", lambda: now)
    for _ in range(2 * MAX_FAST_DEATHS):
        deaths.began()
        deaths.ended_well()
    assert deaths.verdict() is None
    for lived in (1, 1, FAST_SECONDS, 1, 1):
        deaths.began()
        now += lived
        deaths.died("it crashed")
        now += 3600  # somebody starts it again much later
        assert deaths.verdict() is None
    for _ in range(MAX_FAST_DEATHS - 1):
        deaths.began()
        now += 1
    assert "killed, or crashed without a word" in (deaths.verdict() or "")
    assert deaths.verdict() is None


def test_a_spoiled_list_counts_as_none(tmp_path: Path):
    (tmp_path / "starts.json").write_text("{")
    assert FastDeaths(tmp_path / "starts.json", lambda: 1.0).verdict() is None
