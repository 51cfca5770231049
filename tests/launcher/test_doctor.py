"""`omlx doctor` finds what commonly goes wrong, and has a remedy for each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from omlx.integrations.spec import Model
from omlx.launcher.address import ServerAddress
from omlx.launcher.checkup import agents, server, system
from omlx.launcher.checkup.finding import Check, Finding, Grade, Patient
from omlx.launcher.checkup.permissions import permissions
from omlx.launcher.client import Health
from omlx.launcher.doctor import CHECKS, examine
from omlx.launcher.errors import ServerDown
from omlx.launcher.machine import Machine
from omlx.launcher.probing import Status


@pytest.fixture
def patient(machine: Machine) -> Patient:
    return Patient(machine, "linux", "x86_64", None, None, "nothing answers")


def serving(patient: Patient, *models: Model, health: Health | None = None) -> Patient:
    address = ServerAddress("http://127.0.0.1:8000", "the default", is_chosen=False)
    return replace(patient, status=Status(address, health or Health("ok"), models))


def only(check: Check, patient: Patient) -> Finding:
    (finding,) = check(patient)
    assert (finding.remedy == "") == (finding.grade is Grade.OK)
    return finding


def test_an_empty_machine_fails_nothing_and_is_looked_at_whole(machine: Machine):
    machine = replace(machine, environ={**machine.environ, "OMLX_URL": ""})
    of_this_machine = (server.port, server.stranded_memory, system.disk)
    findings = examine(machine, [check for check in CHECKS if check not in of_this_machine])
    assert len(CHECKS) >= 15
    assert [finding for finding in findings if finding.grade is Grade.FAIL] == []
    assert len({finding.check for finding in findings}) == len(findings)


def test_a_check_that_breaks_is_a_finding(patient: Patient):
    def broken(_: Patient):
        yield from ()
        raise OSError("no such thing")

    (finding,) = examine(patient.machine, [broken])
    assert (finding.check, finding.grade) == ("broken", Grade.FAIL)


def test_a_state_file_of_a_dead_server_is_stale(patient: Patient):
    path = patient.machine.omlx_home.server_state
    path.parent.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    state = {"pid": dead.pid, "host": "127.0.0.1", "port": 1, "url": "http://127.0.0.1:1", "instance_id": "i"}
    path.write_text(json.dumps(state))
    assert only(server.stale_server, patient).remedy == f"delete it: rm {path}"
    path.write_text(json.dumps(state | {"pid": os.getpid()}))
    assert only(server.stale_server, serving(patient)).grade is Grade.OK
    older = serving(patient, health=Health("ok", version="0.0.1"))
    assert "the server runs version 0.0.1" in only(server.stale_server, older).fact
    path.write_text("{")
    assert only(server.stale_server, patient).grade is Grade.FAIL


def test_a_port_that_another_program_has_is_found(patient: Patient):
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        machine = replace(patient.machine, environ={**patient.machine.environ, "OMLX_URL": url})
        taken = replace(patient, machine=machine)
        assert "another program listens" in only(server.port, taken).fact
    assert only(server.port, taken).grade is Grade.OK


def test_the_port_is_the_one_that_the_server_would_take(patient: Patient):
    home = patient.machine.omlx_home.root
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as held:
        port, free = other.getsockname()[1], held.getsockname()[1]
        held.close()
        home.mkdir(parents=True, exist_ok=True)
        (home / "settings.json").write_text(json.dumps({"server": {"port": port}}))
        environ = {name: value for name, value in patient.machine.environ.items() if name != "OMLX_URL"}
        of_file = replace(patient, machine=replace(patient.machine, environ=environ))
        of_variable = replace(of_file, machine=replace(of_file.machine, environ={**environ, "OMLX_PORT": str(free)}))
        assert f"another program listens on {port}" in only(server.port, of_file).fact
        assert only(server.port, of_variable).fact == f"{free} is free"
    (home / "settings.json").write_text('{"server": {"port": 0}}')
    assert only(server.port, of_file).fact == "the server takes a free one"


def test_a_program_that_listens_and_says_nothing_is_not_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []

    def silent(_machine: Machine, _url: None, timeout: float) -> Status:
        waited.append(timeout)
        raise ServerDown("it is silent")

    monkeypatch.setattr("omlx.launcher.doctor.ask_status", silent)
    chosen = replace(machine, environ={**machine.environ, "OMLX_URL": "http://127.0.0.1:1"})
    (finding,) = examine(chosen, [server.server])
    assert (finding.grade, finding.fact) == (Grade.FAIL, "it is silent")
    assert waited == [1.0]


def test_a_disk_that_is_nearly_full_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch):
    def left(num_bytes: int) -> Finding:
        monkeypatch.setattr(system.shutil, "disk_usage", lambda _: SimpleNamespace(free=num_bytes))
        return only(system.disk, patient)

    assert [left(size).grade for size in (10**9, 10**10, 10**11)] == [Grade.FAIL, Grade.WARN, Grade.OK]
    assert left(10**9).fact.startswith("1.0 GB free at ")
    assert "omlx rm" in left(10**9).remedy


def test_memory_that_other_programs_hold_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system, "_available_memory", lambda: patient.machine.memory_bytes // 20)
    assert "omlx ps" in only(system.memory, patient).remedy
    monkeypatch.setattr(system, "_available_memory", lambda: patient.machine.memory_bytes // 2)
    assert only(system.memory, patient).grade is Grade.OK


def test_a_system_without_a_keychain_is_told_what_is_done_instead(patient: Patient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agents, "find_backend", lambda _: None)
    finding = only(agents.keychain, patient)
    assert finding.grade is Grade.WARN
    assert "OMLX_API_KEY" in finding.remedy
    monkeypatch.setattr(agents, "find_backend", lambda _: object())
    assert only(agents.keychain, patient).grade is Grade.OK


def test_no_models_no_agents_and_old_node_are_found(patient: Patient, fake_agent: Callable[[str], Path]):
    assert "omlx pull" in only(server.models, patient).remedy
    assert "omlx launch --list" in only(agents.agents, patient).remedy
    node = fake_agent("node")
    node.write_text("#!/bin/sh\necho v18.1.0\n")
    assert "Claude Code (22.0), Qwen Code (22.0), Pi (22.19), OpenClaw (24.16)" in only(system.node, patient).fact
    node.write_text("#!/bin/sh\necho v22.20.0\n")
    assert only(system.node, patient).fact.endswith("is older than some agents want: OpenClaw (24.16)")
    node.write_text("#!/bin/sh\necho v24.16.0\n")
    assert only(system.node, patient).grade is Grade.OK
    fake_agent("claude")
    assert only(agents.agents, patient).fact == "Claude Code"


URL = "http://127.0.0.1:8000"
DEGRADED = {
    "a reason": (
        Health("degraded", failed=("m",), reasons={"m": "it is corrupt"}),
        (Grade.FAIL, f"{URL} runs, but m failed: it is corrupt"),
    ),
    "a sentence about the model, and another's reason": (
        Health("degraded", failed=("m", "n"), reasons={"m": "m was stopped. Mend that", "n": "m was first"}),
        (Grade.FAIL, f"{URL} runs, but m was stopped. Mend that; n failed: m was first"),
    ),
    "silence": (
        Health("degraded", stalled=("m", "n"), reasons={"n": "it waits for rank 1"}),
        (
            Grade.FAIL,
            f"{URL} runs, but m is stuck: its engine has been silent for a minute; n is stuck: it waits for rank 1",
        ),
    ),
    "a disk that fails": (
        Health("degraded", cache_trouble={"m": "the disk is full"}),
        (Grade.WARN, f"{URL} runs, but m keeps no prefixes on disk: the disk is full"),
    ),
    "no reason": (Health("degraded"), (Grade.FAIL, f"{URL} runs, but says that it is degraded")),
    "its end": (Health("stopping"), (Grade.WARN, f"{URL} finishes its requests and ends")),
}


@pytest.mark.parametrize("name", DEGRADED)
def test_a_server_that_is_not_well_is_told_in_a_sentence(patient: Patient, name: str):
    health, told = DEGRADED[name]
    finding = only(server.server, serving(patient, health=health))
    assert (finding.grade, finding.fact) == told


def test_engines_without_a_server_hold_memory(patient: Patient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "_engines", lambda: iter([]))
    assert only(server.stranded_memory, patient).grade is Grade.OK
    theirs = "/opt/omlx/bin/python -P -m omlx.server serve --quiet"
    found = [(4000, "/usr/lib/systemd/systemd --user", 5 * 10**9), (4001, theirs, 10**9)]
    monkeypatch.setattr(server, "_engines", lambda: iter(found))
    finding = only(server.stranded_memory, patient)
    assert (finding.grade, finding.remedy) == (Grade.FAIL, "end them: kill 4000")
    assert "hold 5.0 GB" in finding.fact


def test_a_running_engine_is_seen(patient: Patient):
    program = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", program, "-m", "omlx.server.engine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as engine:
        seen = {pid: parent for pid, parent, _ in server._engines()}
        found = only(server.stranded_memory, patient)
        engine.communicate()
    own = Path("/proc/self/cmdline")
    if own.exists():
        assert seen[engine.pid].split() == own.read_text().replace("\0", " ").split()
    assert str(engine.pid) in found.remedy.split()  # its parent lives, and is these tests


def test_an_engine_under_its_server_is_not_stranded(patient: Patient):
    engine = "import sys; sys.stdin.read()"
    parent = (
        "import subprocess, sys\n"
        f"engine = subprocess.Popen([sys.executable, '-c', {engine!r}, '-m', 'omlx.server.engine'])\n"
        "print(engine.pid, flush=True)\n"
        "engine.wait()"
    )
    command = [sys.executable, "-c", parent, "-m", "omlx.server", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = running.stdout.readline().strip()
        assert pid in {str(pid) for pid, _, _ in server._engines()}
        assert pid not in only(server.stranded_memory, patient).remedy.split()
        running.communicate()


def test_a_window_too_small_for_an_agent_is_found(patient: Patient, fake_agent: Callable[[str], Path]):
    fake_agent("claude")
    small = only(agents.windows, serving(patient, Model("m", 8192, 2048)))
    assert "Claude Code needs 49,152 tokens; the widest window here has 8,192" in small.fact
    assert only(agents.windows, serving(patient, Model("m", 131_072, 2048))).grade is Grade.OK


def test_settings_of_an_agents_own_that_would_win_are_found(
    patient: Patient, fake_agent: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    fake_agent("claude")
    managed = '{"env": {"ANTHROPIC_BASE_URL": "https://elsewhere.example"}}'
    monkeypatch.setattr(agents.Looker, "read", lambda _, path: managed if "managed-settings" in str(path) else None)
    found = list(agents.overrides(patient))
    assert found[0].grade is Grade.WARN
    assert "ANTHROPIC_BASE_URL" in found[0].fact


def test_an_administrator_whom_a_launch_would_displace_and_a_project_above_a_wired_agent_are_found(
    patient: Patient, tmp_path: Path, fake_agent: Callable[[str], Path]
):
    for name in ("hermes", "crush"):
        fake_agent(name)
    managed = tmp_path / "managed"
    managed.mkdir()
    (managed / "config.yaml").write_text("model: theirs\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / ".crush.json").write_text('{"models": {"large": {}}}')
    environ = {**patient.machine.environ, "HERMES_MANAGED_DIR": str(managed)}
    machine = replace(patient.machine, environ=environ, directory=project)
    crush, hermes = agents.overrides(replace(patient, machine=machine))
    assert f"{project}/.crush.json sets models.large" in crush.fact
    assert f"{managed} already manages it" in hermes.fact


def test_the_folder_that_a_launch_gave_hermes_is_no_administrators(patient: Patient, fake_agent: Callable[[str], Path]):
    fake_agent("hermes")
    folder = patient.machine.omlx_home.run_directory("hermes") / "x"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: ours\n")
    machine = replace(patient.machine, environ={**patient.machine.environ, "HERMES_MANAGED_DIR": str(folder)})
    assert [each.grade for each in agents.overrides(replace(patient, machine=machine))] == [Grade.OK]


def test_keys_that_others_can_read_and_keys_without_a_copy_are_found(patient: Patient, monkeypatch: pytest.MonkeyPatch):
    from datetime import UTC, datetime

    from omlx.launcher.keys import new_key

    monkeypatch.setattr("omlx.launcher.secrets.find_backend", lambda _: None)
    home = patient.machine.omlx_home.root
    new_key(home, "claude", datetime.now(UTC))
    assert "omlx key rotate claude --yes" in only(agents.keys, patient).remedy
    assert only(permissions, patient).grade is Grade.OK
    (home / "keys.json").chmod(0o646)
    assert only(permissions, patient).fact == f"others can read and write {home}/keys.json (mode 0646)"


def test_settings_that_others_can_read_are_a_warning_and_no_reason_for_new_keys(patient: Patient):
    path = patient.machine.omlx_home.root / "settings.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(0o644)
    finding = only(permissions, patient)
    assert (finding.grade, finding.remedy) == (Grade.WARN, f"chmod 600 {path}; there are no keys in it")


def test_a_home_that_others_can_write_is_a_warning_and_one_that_they_can_list_is_none(patient: Patient):
    home = patient.machine.omlx_home.root
    home.mkdir(parents=True)
    home.chmod(0o777)
    finding = only(permissions, patient)
    assert (finding.grade, finding.remedy) == (Grade.WARN, f"chmod 700 {home}")
    assert finding.fact == f"others can write {home} (mode 0777)"
    home.chmod(0o755)
    assert only(permissions, patient).grade is Grade.OK


def test_a_home_that_cannot_be_is_a_failure_with_the_remedy(patient: Patient, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "inner"):
        machine = replace(patient.machine, environ={**patient.machine.environ, "OMLX_HOME": str(home)})
        finding = only(permissions, replace(patient, machine=machine))
        assert finding.grade is Grade.FAIL
        assert "is no folder" in finding.fact
        assert "OMLX_HOME=FOLDER" in finding.remedy


def test_wrong_settings_and_stopped_downloads_are_found(patient: Patient):
    home = patient.machine.omlx_home.root
    (home / "models" / "org" / ".m.downloading").mkdir(parents=True)
    (home / "settings.json").write_text('{"server": {"port": "x"}}')
    assert "server.port is 'x'" in only(server.settings, patient).fact
    assert "omlx rm org/m" in only(server.downloads, patient).remedy
    asked = '{"repo": "other/repo", "revision": "v1", "name": "org/m"}'
    (home / "models" / "org" / ".m.downloading" / ".omlx_request.json").write_text(asked)
    assert only(server.downloads, patient).remedy == (
        "`omlx pull other/repo --revision v1 --name org/m` goes on, `omlx rm org/m` removes it"
    )


def test_a_proxy_that_takes_loopback_too_and_an_intel_python_are_found(patient: Patient):
    machine = replace(patient.machine, environ={"HTTP_PROXY": "http://proxy:3128"})
    assert "NO_PROXY" in only(system.proxies, replace(patient, machine=machine)).remedy
    assert "arm64" in only(system.processor, replace(patient, platform="darwin")).remedy
    assert only(system.processor, replace(patient, platform="darwin", processor="arm64")).grade is Grade.OK
