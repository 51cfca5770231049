"""`make demo`: a real model served, the probe table, and a real agent's answer.

Everything it writes lands in .cache/demo, the home that the agent sees included; nothing is left running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from omlx.server.models.embedded import MODEL_NAME

from .embedded import OMLX, import_embedded_model
from .install_agents import AgentsUnavailable, NodeTooOld, install

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / ".cache" / "demo"
_PROMPT = "Say hello in one short sentence."
_PI_STAYS_HERE = {"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0"}
_START_SECONDS = 120
_ANSWER_WRONG = 3  # the probe's exit code for a small model's mistakes: they are part of the demonstration


class DemoFailed(Exception):
    pass


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


@contextlib.contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """A server for the demo's home; its address."""
    log, state = _FOLDER / "server.log", _FOLDER / "run" / "server.json"
    state.unlink(missing_ok=True)
    with log.open("wb") as sink:
        server = subprocess.Popen([OMLX, "serve", "--port", "0"], env=environment, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not state.is_file():
            if server.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield json.loads(state.read_text())["url"]
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def find_pi() -> Path:
    """The folder with the `pi` command: the user's own, else one inside this checkout.

    Raises `AgentsUnavailable` where there is no Node.
    """
    own = shutil.which("pi")
    if own:
        return Path(own).parent
    if not shutil.which("node"):
        raise AgentsUnavailable("there is no Node on PATH (nodejs.org, or your system's packages)")
    try:
        return install(["pi"])
    except NodeTooOld as reason:
        print(f"{reason}; a newer one is installed into {_shown(Path(sys.prefix))}", flush=True)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
        subprocess.run([*command, "--requirement", str(_ROOT / "requirements" / "node.txt")], check=True)
        return install(["pi"])


def run_pi(environment: dict[str, str]) -> None:
    try:
        commands = find_pi()
    except AgentsUnavailable as reason:
        print(f"Pi is skipped: {reason}.")
        return
    home, work = _FOLDER / "home", _FOLDER / "work"
    for folder in (home, work):
        folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(commands), environment["PATH"]])
    # the model's window is too small for a session, and large enough for one answer
    command = [OMLX, "launch", "pi", "--model", MODEL_NAME, "--force", "--", "-p", _PROMPT]
    print(f"$ omlx launch pi --model {MODEL_NAME} --force -- -p '{_PROMPT}'", flush=True)
    done = subprocess.run(command, env={**environment, "PATH": path, "HOME": str(home)}, cwd=work, check=False)
    if done.returncode:
        raise DemoFailed(f"Pi ended with exit code {done.returncode}")


def demo() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMLX_")}
    environment |= {"OMLX_HOME": str(_FOLDER), **_PI_STAYS_HERE}
    say("Importing the embedded model")
    print(f"{_shown(import_embedded_model(_FOLDER))}", flush=True)
    say("Starting the server")
    with serving(environment) as url:
        print(f"omlx serves {MODEL_NAME} at {url}; its log is {_shown(_FOLDER / 'server.log')}", flush=True)
        say("Probing it: seven questions, the long ones take minutes on a CPU")
        probed = subprocess.run([OMLX, "probe", "--model", MODEL_NAME], env=environment, check=False).returncode
        if probed not in (0, _ANSWER_WRONG):
            raise DemoFailed(f"omlx probe ended with exit code {probed}")
        say("Running Pi on it")
        run_pi(environment)
    say("Done; the server has ended")


def _shown(path: Path) -> str:
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else str(path)


def main() -> None:
    try:
        demo()
    except (DemoFailed, AgentsUnavailable) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
