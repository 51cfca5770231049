"""Runs a real agent against a real server, alone with it: a throw-away home and a network that is loopback only."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from .inside import Job, Run
from .install_agents import CACHE
from .recording_proxy import Exchange

_ROOT = Path(__file__).parents[2]
OMLX = str(Path(sys.executable).parent / "omlx")
COMMANDS = CACHE / "bin"

_USER_FILES = {
    ".bashrc": "export EDITOR=vi\n",
    ".gitconfig": "[user]\n\tname = A User\n",
    ".claude/settings.json": '{\n  "cleanupPeriodDays": 20, "env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}\n}\n',
    ".pi/agent/settings.json": '{\n  "defaultProvider": "anthropic",  "theme": "dark"\n}\n',
}
"""What a user had before: nothing of it may change, not even the spacing."""

_OWN_PLACES = {
    "claude": (".claude/", ".claude.json"),
    "cline": (".cline/",),
    "codex": (".codex/",),
    "copilot": (".copilot/", ".cache/copilot/", ".cache/Microsoft/DeveloperTools/"),
    "hermes": (".hermes/",),
    "kilo": (".config/kilo/", ".local/share/kilo/", ".local/state/kilo", ".cache/kilo/"),
    "openclaw": (".openclaw/",),
    "opencode": (".config/opencode/", ".local/share/opencode/", ".local/state/opencode/", ".cache/opencode/"),
    "pi": (".pi/",),
    "qwen": (".qwen/",),
    "vibe": (".vibe/",),
}
"""Where each agent keeps its state; a new file elsewhere in the home, but for omlx's own, is a finding."""


@dataclass(frozen=True, slots=True)
class Outcome:
    runs: list[Run]
    exchanges: list[Exchange]
    server_exit_code: int | None
    server_log: str
    new_files: list[str]

    def posts(self, path: str) -> list[Exchange]:
        """The POST requests to `path`, whatever their query."""
        return [each for each in self.exchanges if each.method == "POST" and each.path.partition("?")[0] == path]

    def __str__(self) -> str:
        parts = [f"exit {run.exit_code} after {run.seconds:.1f} s\n{run.output}\n{run.errors}" for run in self.runs]
        parts += [f"looked up {name}" for run in self.runs for name in run.names]
        asked = [f"{each.method} {each.path} -> {each.status}" for each in self.exchanges]
        return "\n".join([*parts, *asked, self.server_log])


@dataclass(frozen=True, slots=True)
class Bench:
    """A home, a work folder and an environment of their own for one test; `agent` is empty where there are several."""

    folder: Path
    agent: str
    more_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def omlx_home(self) -> Path:
        return self.home / ".omlx"

    def run(self, serve: list[str], *launches: list[str], seconds: float = 240) -> Outcome:
        """Start the server, then each launch (`omlx launch …` without the address) in turn."""
        runs = [[OMLX, *launch[:2], "--url", "{url}", "--yes", *launch[2:]] for launch in launches]
        return self.play(serve, runs, seconds)

    def play(self, serve: list[str], runs: list[list[str]], seconds: float = 240) -> Outcome:
        """Start the server, then each command in turn; `{url}` in it is the server's. The home must end as it began."""
        job = Job(str(self.work), str(self.omlx_home), self._environment(), serve, runs, seconds)
        before = _fingerprints(self.home)
        result = self._enter(job)
        after = _fingerprints(self.home)
        users = {name: digest for name, digest in before.items() if not name.startswith(".omlx/")}
        changed = [name for name, digest in users.items() if after.get(name) != digest]
        assert changed == [], f"files of the user's changed: {changed}"
        own = _OWN_PLACES.get(self.agent) or tuple(place for places in _OWN_PLACES.values() for place in places)
        strange = [name for name in after if name not in before and not name.startswith((".omlx/", *own))]
        assert strange == [], f"files appeared in the user's home: {strange}"
        return Outcome(
            runs=[Run(**run) for run in result["runs"]],
            exchanges=[Exchange(**exchange) for exchange in result["exchanges"]],
            server_exit_code=result["server_exit_code"],
            server_log=result["server_log"],
            new_files=sorted(after.keys() - before.keys()),
        )

    def _enter(self, job: Job) -> dict:
        job_path, result_path = self.folder / "job.json", self.folder / "result.json"
        job_path.write_text(json.dumps(asdict(job)))
        command = [*_enter_namespace(), sys.executable, "-m", "tests.e2e.inside"]
        done = subprocess.run(
            [*command, str(job_path), str(result_path)], cwd=_ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(result_path.read_text())

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": os.pathsep.join([str(COMMANDS), str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
            "CLAUDE_CODE_MAX_RETRIES": "1",  # so that a failing server fails the test at once
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(_ROOT),  # for the scripted server; it holds `tests`, and omlx is installed
            **self.more_environment,
        }


def make_bench(folder: Path, agent: str, environment: Mapping[str, str] | None = None) -> Bench:
    """A bench, or a skip that says what this machine lacks. `environment` is set on top of the bench's own."""
    refusal = missing(agent)
    if refusal:
        pytest.skip(refusal)
    bench = Bench(folder, agent, environment or {})
    for each in (bench.home, bench.work, folder / "tmp"):
        each.mkdir(parents=True)
    for name, text in _USER_FILES.items():
        path = bench.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return bench


def missing(agent: str) -> str:
    """What this machine lacks to run the agent."""
    if agent and not (COMMANDS / agent).exists():
        return f"{agent} is not installed: `make agents` installs it, or says what this machine lacks"
    if shutil.which("unshare") is None:
        return "no `unshare` here: the agents run only where a network namespace keeps them to loopback"
    tried = subprocess.run([*_enter_namespace(), "true"], capture_output=True, text=True, check=False)
    return f"network namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else ""


def _enter_namespace() -> list[str]:
    """Root needs no user namespace, which a container or a chroot may forbid. Files of /etc are replaced in it."""
    return ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--net", "--mount"]


def _fingerprints(folder: Path) -> dict[str, str]:
    """Each file below `folder` with a digest of its contents; a link counts as its target's name."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
