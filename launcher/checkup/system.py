"""The machine: Python, processor, BLAS, Node, disk, memory, proxies."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path

from ...integrations import names
from ..launch import find_agent
from ..selection import size_text
from .finding import Finding, Patient, fail, ok, warn

_LOW_DISK, _LEAST_DISK = 20 * 10**9, 2 * 10**9
_VERSION = re.compile(r"v(\d+)\.(\d+)")


def python(patient: Patient) -> Iterator[Finding]:
    del patient
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.prefix == sys.base_prefix:
        yield warn(
            "python", f"{version}, not in an environment of its own", "install omlx with `uv tool install` or pipx"
        )
    else:
        yield ok("python", f"{version} in {sys.prefix}")


def processor(patient: Patient) -> Iterator[Finding]:
    if patient.platform != "darwin":
        yield ok("processor", f"{patient.processor} on {patient.platform}")
    elif patient.processor == "arm64":
        yield ok("processor", "Apple silicon")
    else:
        remedy = "install an arm64 Python: MLX has no Metal in one for Intel, or under Rosetta"
        yield fail("processor", f"this Python is for {patient.processor}", remedy)


def blas(patient: Patient) -> Iterator[Finding]:
    if patient.platform == "darwin":
        yield ok("blas", "Accelerate")
    elif shutil.which("nvidia-smi", path=patient.machine.environ.get("PATH")):
        yield ok("blas", "not needed: there is an NVIDIA GPU")
    elif find_library("openblas") or list(Path("/usr/lib").glob("*/libopenblas.so.0")):
        yield ok("blas", "OpenBLAS")
    else:
        remedy = "install it (Debian: apt install libopenblas0-pthread): without it MLX computes many times slower"
        yield warn("blas", "no OpenBLAS found", remedy)


def node(patient: Patient) -> Iterator[Finding]:
    """Whether Node is there, and new enough for the agents that npm installs."""
    wanted = sorted((agent.minimum_node, agent.title) for agent in map(find_agent, names()) if agent.minimum_node)
    newest = _dotted(wanted[-1][0])
    found = shutil.which("node", path=patient.machine.environ.get("PATH"))
    if found is None:
        remedy = f"install Node {newest} or newer where you want agents that npm installs"
        yield warn("node", "no node on PATH", remedy)
        return
    said = ""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [found, "--version"], capture_output=True, text=True, check=False, timeout=1
        ).stdout.strip()
    version = _VERSION.match(said)
    refusing = [(need, title) for need, title in wanted if version and (int(version[1]), int(version[2])) < need]
    if refusing:
        listed = ", ".join(f"{title} ({_dotted(need)})" for need, title in refusing)
        remedy = f"install Node {newest} or newer where you want these agents"
        yield warn("node", f"{said} at {found} is older than some agents want: {listed}", remedy)
    else:
        yield ok("node", f"{said or 'there'} at {found}")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def disk(patient: Patient) -> Iterator[Finding]:
    home = _existing(patient.machine.omlx_home.root)
    free = shutil.disk_usage(home).free
    fact = f"{size_text(free)} free at {home}"
    remedy = "make room (`omlx list`, `omlx rm`), lower cache.ssd_bytes, or move the home with OMLX_HOME"
    if free < _LEAST_DISK:
        yield fail("disk", fact, remedy)
    elif free < _LOW_DISK:
        yield warn("disk", fact, remedy)
    else:
        yield ok("disk", fact)


def memory(patient: Patient) -> Iterator[Finding]:
    total = patient.machine.memory_bytes
    available = _available_memory()
    if available is None:
        yield ok("memory", f"{size_text(total)}")
    elif available < total * 0.1:
        fact = f"{size_text(available)} of {size_text(total)} are free"
        yield warn("memory", fact, "close other programs, or unload a model; `omlx ps` lists them")
    else:
        yield ok("memory", f"{size_text(available)} of {size_text(total)} are free")


def proxies(patient: Patient) -> Iterator[Finding]:
    environ = patient.machine.environ
    names = [name for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy") if environ.get(name)]
    if names and not _bypasses_loopback(environ):
        remedy = "add 127.0.0.1,localhost to NO_PROXY: agents may send their requests there instead of to the server"
        yield warn("proxy", f"{names[0]} is set", remedy)
    else:
        yield ok("proxy", f"{names[0]} leaves loopback out" if names else "none")


def _bypasses_loopback(environ: Mapping[str, str]) -> bool:
    listed = (environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")
    return any(entry.strip() in ("127.0.0.1", "localhost", "*") for entry in listed)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _available_memory() -> int | None:
    """Bytes that programs could get now; None where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text()
        return int(text.split("MemAvailable:")[1].split()[0]) * 1024
    return None
