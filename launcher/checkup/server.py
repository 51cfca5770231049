"""The server: its state file, its address, its health, its models, its settings, and what dead ones left."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ..address import is_loopback
from ..client import Health
from ..errors import FileError
from ..own_key import own_key
from ..selection import size_text
from ..state import ServerState, is_alive, read_text
from .finding import Finding, Patient, fail, ok, warn

_ENGINE = re.compile(r" -m omlx\.server\.engine(\s|$)")
_SERVER = re.compile(r" -m omlx\.server(\s|$)")
"""In the command line of an engine's parent. An orphan's is init, or whatever adopts: systemd's user manager does."""


def server(patient: Patient) -> Iterator[Finding]:
    if patient.status is not None:
        yield _state(patient.status.address.url, patient.status.health)
        return
    own_key(patient.machine.environ)  # a wrong one is no fault of the server
    address = patient.machine.resolve(None)
    if address.is_chosen or patient.state is not None:
        yield fail("server", patient.trouble, "`omlx stop`, then `omlx serve`; or correct OMLX_URL")
    else:
        yield ok("server", "none runs; `omlx serve` or `omlx launch AGENT` starts one")


def _state(url: str, health: Health) -> Finding:
    if health.status in ("ok", "loading"):
        return ok("server", f"{url}: {health.status}")
    if health.status == "stopping":
        return warn("server", f"{url} finishes its requests and ends", "start it again when it has: `omlx serve`")
    fact = f"{url} runs, but {'; '.join(health.troubles) or f'says that it is {health.status}'}"
    tell = fail if health.failed or health.stalled or not health.troubles else warn  # prompts may go without a disk
    return tell("server", fact, "`omlx logs --level WARNING` says more")


def stale_server(patient: Patient) -> Iterator[Finding]:
    path = patient.machine.omlx_home.server_state
    try:
        text = read_text(path)
        if text is None:
            yield ok("state file", "none")
            return
        state = msgspec.json.decode(text, type=ServerState)
    except msgspec.DecodeError:
        yield fail("state file", f"{path} does not parse", f"stop the server and delete {path}")
        return
    except FileError as error:
        yield fail("state file", str(error), f"delete {path}")
        return
    own = version("omlx")
    if not is_alive(state.pid):
        yield warn("state file", f"a server that is gone left {path}", f"delete it: rm {path}")
    elif patient.status is not None and patient.status.health.version not in ("", own):
        fact = f"the server runs version {patient.status.health.version}, and this is {own}"
        yield warn("state file", fact, "start it anew: `omlx stop`, then `omlx serve`")
    else:
        yield ok("state file", f"process {state.pid}")


def port(patient: Patient) -> Iterator[Finding]:
    """Whether somebody else listens where our server would."""
    address = patient.machine.resolve(None)
    parts = urlsplit(address.url)
    if patient.state is not None or (address.is_chosen and not is_loopback(address.url)):
        yield ok("port", f"{parts.port} is our server's" if patient.state else f"{address.url} is another machine's")
        return
    if parts.port == 0:
        yield ok("port", "the server takes a free one")
        return
    taken = _is_taken(parts.hostname or "", parts.port or 80)
    if taken and patient.status is None:
        remedy = "end that program, or choose another port: `omlx config set server.port 8001`"
        yield fail("port", f"another program listens on {parts.port}", remedy)
    else:
        yield ok("port", f"{parts.port} is free" if not taken else f"{parts.port} is a server's")


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.3):
            return True
    except OSError:
        return False


def stranded_memory(patient: Patient) -> Iterator[Finding]:
    """Engine processes whose server is gone keep their model's memory."""
    del patient
    stranded = [(pid, size) for pid, parent, size in _engines() if not _SERVER.search(parent)]
    if not stranded:
        yield ok("stranded memory", "none")
        return
    pids = " ".join(str(pid) for pid, _ in stranded)
    held = sum(size for _, size in stranded)
    fact = f"{len(stranded)} engine processes without a server hold {size_text(held)}"
    yield fail("stranded memory", fact, f"end them: kill {pids}")


def models(patient: Patient) -> Iterator[Finding]:
    remedy = "`omlx pull REPO` downloads one, `omlx import FILE.gguf` takes one over"
    if patient.status is not None:
        count = len(patient.status.models)
        yield ok("models", f"{count} served") if count else fail("models", "the server has none", remedy)
        return
    folder = patient.machine.omlx_home.root / "models"
    found = [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    yield ok("models", f"{len(found)} in {folder}") if found else warn("models", f"none in {folder}", remedy)


def downloads(patient: Patient) -> Iterator[Finding]:
    left = sorted((patient.machine.omlx_home.root / "models").glob("*/.*.downloading"))
    if not left:
        yield ok("downloads", "none was stopped")
        return
    size = sum(path.stat().st_size for folder in left for path in folder.rglob("*") if path.is_file())
    download = _download_of(left[0])
    fact = f"{len(left)} stopped, {size_text(size)}"
    remedy = f"`{download.command}` goes on, `omlx rm {download.name or download.repo}` removes it"
    yield warn("downloads", fact, remedy)


def settings(patient: Patient) -> Iterator[Finding]:
    """Asks the server's own reader, in a process of its own."""
    environ = {**patient.machine.environ, "OMLX_HOME": str(patient.machine.omlx_home.root)}
    command = [sys.executable, "-P", "-m", "omlx.server", "config", "validate"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10, env=environ)
    except subprocess.TimeoutExpired:
        yield warn("settings", "they were not read within 10 s", "see `omlx config validate`")
        return
    said = ran.stderr.strip().removeprefix("omlx: ").splitlines()
    if ran.returncode != 0:
        fact = said[-1] if said else f"`omlx config validate` ended with {ran.returncode}"
        yield fail("settings", fact, "edit the file: no server starts with it as it is")
    elif said:
        yield warn("settings", said[0], "correct that name, or take it out")
    else:
        yield ok("settings", "valid")


class _Download(msgspec.Struct):
    """What a stopped download's folder says that was asked for."""

    repo: str
    revision: str | None = None
    name: str | None = None

    @property
    def command(self) -> str:
        options = {"--revision": self.revision, "--name": self.name}
        given = [word for option, value in options.items() if value is not None for word in (option, value)]
        return shlex.join(["omlx", "pull", self.repo, *given])


def _download_of(folder: Path) -> _Download:
    try:
        return msgspec.json.decode(read_text(folder / ".omlx_request.json") or "", type=_Download)
    except msgspec.DecodeError:
        return _Download(f"{folder.parent.name}/{folder.name[1:].removesuffix('.downloading')}")


def _engines() -> Iterator[tuple[int, str, int]]:
    """The engine processes: process, the parent's command line, and bytes of memory."""
    listed = list(_processes_of_proc() if Path("/proc/self/stat").exists() else _processes_of_ps())
    commands = {pid: command for pid, _, _, command in listed}
    return ((pid, commands.get(parent, ""), size) for pid, parent, size, command in listed if _ENGINE.search(command))


def _processes_of_proc() -> Iterator[tuple[int, int, int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):  # it may end meanwhile
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            size = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            yield int(folder.name), int(parent), size, command


def _processes_of_ps() -> Iterator[tuple[int, int, int, str]]:
    asked = ["ps", "-axo", "pid=,ppid=,rss=,args="]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=5)
    for line in ran.stdout.splitlines():
        pid, parent, size, command = line.split(maxsplit=3)
        yield int(pid), int(parent), int(size) * 1024, command
