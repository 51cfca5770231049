"""Finding and becoming the agent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.integrations.spec import Integration, RunFile, Surroundings, Target, Wiring
from omlx.launcher.errors import AgentMissing
from omlx.launcher.machine import Machine
from omlx.launcher.plan import make_plan
from omlx.launcher.process import become, find_executable, is_installed, sweep_run_files, write_run_files

AGENT = Integration(
    "agent",
    "The Agent",
    "agent",
    "brew install agent",
    1,
    "a file",
    lambda target, around: Wiring(
        ("-x", *around.arguments), files=(RunFile.of(around.run_directory, "a", target.url),)
    ),
    unset=("ELSEWHERE",),
    other_places=(".agent/bin/agent",),
)


def test_the_program_on_the_path_is_found(machine: Machine, fake_agent: Callable[[str], Path]):
    program = fake_agent("agent")
    assert find_executable(AGENT, machine.environ, machine.user_home) == str(program)
    assert is_installed(AGENT, machine.environ, machine.user_home)


def test_a_program_off_the_path_is_found_where_its_installer_puts_it(machine: Machine):
    program = machine.user_home / ".agent" / "bin" / "agent"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    assert find_executable(AGENT, machine.environ, machine.user_home) == str(program)


def test_a_missing_program_gets_its_install_line(machine: Machine):
    assert not is_installed(AGENT, machine.environ, machine.user_home)
    with pytest.raises(AgentMissing, match="brew install agent"):
        find_executable(AGENT, machine.environ, machine.user_home)


def test_the_agent_gets_arguments_and_environment_and_its_exit_code_is_ours(
    fake_agent: Callable[[str], Path], target: Target, surroundings: Surroundings
):
    # In a child, since the process that becomes the agent is gone.
    environ = {"ELSEWHERE": "1", "HOME": "/home/me"}
    plan = make_plan(AGENT, target, replace(surroundings, environ=environ, arguments=("two words",)))
    script = (
        "from omlx.launcher.process import become; from omlx.launcher.plan import LaunchPlan; "
        f"become({str(fake_agent('agent'))!r}, LaunchPlan('agent', 'agent', {plan.arguments!r}, (), "
        f"{dict(plan.environment)!r}, {plan.unset!r}, (), (), 'm', None), {environ!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 7, done.stderr
    assert lines[:2] == ["argument -x", "argument two words"]
    assert "HOME=/home/me" in lines
    assert "OMLX_API_KEY=secret-key-of-this-launch" in lines
    assert not [line for line in lines if line.startswith("ELSEWHERE")]


def test_a_program_that_is_none_is_told_with_its_remedy(tmp_path: Path, target: Target, surroundings: Surroundings):
    program = tmp_path / "agent"
    program.write_bytes(b"no program")
    program.chmod(0o755)
    plan = make_plan(AGENT, target, surroundings)
    with pytest.raises(AgentMissing, match=r"cannot be run .*; install the agent again"):
        become(str(program), plan, surroundings.environ)


def test_run_files_are_private_and_old_ones_are_swept(tmp_path: Path, target: Target, surroundings: Surroundings):
    around = replace(surroundings, run_directory=tmp_path / "run")
    plan = make_plan(AGENT, target, around)
    old = RunFile.of(around.run_directory, "a", "of a launch long ago")
    write_run_files(replace(plan, files=(old,)))
    os.utime(old.path, (0, 0))
    write_run_files(plan)
    sweep_run_files(around.run_directory)
    assert plan.files[0].path.read_text() == target.url
    assert plan.files[0].path.stat().st_mode & 0o777 == 0o600
    assert not old.path.parent.exists()
