"""Sits at a terminal and runs an agent there: `python -m tests.e2e.typist STEPS.json COMMAND…`.

STEPS is a list of pairs: what to wait for on the screen, and what to type then. The last is typed again and again until
the agent ends. What was on the screen goes to standard output. The exit code is the agent's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

_CONTROLS = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P_^][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x20\x7f]")
"""Sequences that move and colour, and with them all space: an interface moves the cursor instead of writing blanks."""
_QUESTIONS = {b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?62;22c", b"\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x1b\\"}
"""What interfaces ask a terminal at their start, and the answers: where the cursor is, what it is, how dark it is."""
_LONGEST = max(map(len, _QUESTIONS))
_SIZE = (50, 160)
_STEP_SECONDS = 120
_END_SECONDS = 60
_STOP_SECONDS = 20
_ENTER = "\r"
_NEVER = r"(?!)"


class Terminal:
    """The other side of an agent's terminal; `seen` is all that was written there, without controls and blanks."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *_SIZE, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._written = b""

    @property
    def seen(self) -> str:
        return _CONTROLS.sub(b"", self._written).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the agent has just ended
            os.write(self._ours, text.encode())

    def wait_for(self, wanted: str, seconds: float, again: str = "") -> bool:
        """Whether the screen came to show `wanted`, a pattern, in what is written from now on.

        `again` is typed every second until then.
        """
        now, start = time.monotonic(), len(self.seen)
        deadline, due = now + seconds, now + 1
        while (now := time.monotonic()) < deadline:
            is_open = self._read()
            if re.search(wanted, self.seen[start:]):
                return True
            if not is_open:
                return False
            if again and now >= due:
                self.type(again)
                due = now + 1
            time.sleep(0.02)
        return False

    def expect(self, wanted: str, typed: str) -> None:
        """Wait for `wanted`. An Enter `typed` right behind a text may be taken for a part of what is pasted."""
        if not self.wait_for(wanted, _STEP_SECONDS, again=typed if typed == _ENTER else ""):
            print(f"never saw {wanted!r}", file=sys.stderr)

    def end(self, leave: str) -> int:
        """Type `leave` until the agent ends, as it may be at work, or ask whether one is sure; end it when it stays."""
        self.type(leave)
        self.wait_for(_NEVER, _END_SECONDS, again=leave)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def _read(self) -> bool:
        """Take what was written, and answer what was asked; False once nobody can write any more."""
        try:
            piece = os.read(self._ours, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        before = self._written[-_LONGEST:]  # a question may come in two pieces
        self._written += piece
        for question, answer in _QUESTIONS.items():
            for _ in range((before + piece).count(question) - before.count(question)):
                os.write(self._ours, answer)
        return bool(piece)


def main() -> None:
    steps: list[list[str]] = json.loads(Path(sys.argv[1]).read_text())
    terminal = Terminal(sys.argv[2:])
    typed = ""
    for wanted, text in steps[:-1]:
        terminal.expect(wanted, typed)
        terminal.type(text)
        typed = text
    wanted, leave = steps[-1]
    terminal.expect(wanted, typed)
    code = terminal.end(leave)
    print(terminal.seen)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
