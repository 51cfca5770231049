"""SIGINT, SIGTERM and SIGHUP, from a server's first step to the end of its process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last is a terminal's that closes."""

Hear = Callable[[int, FrameType | None], None]


class Stopped(SystemExit):
    """A signal told the server to stop before it ran. The exit code is 0, as of one that was told so later."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self.name = name


class StopSignals:
    """Whoever runs now hears of them: `Stopped` is raised until `pass_on`, once, so that nothing disturbs what that
    sets going. They are caught until the process has ended; a later one would otherwise end it with another code."""

    def __init__(self) -> None:
        self._hear: Hear | None = None
        self._told = 0

    def catch(self) -> None:
        """From now on; what the launcher has held back until here comes, too."""
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._handle)
        let_through()

    def pass_on(self, hear: Hear) -> None:
        """`hear` is called from now on, as a signal's handler is: between any two steps of what runs. It is told of one
        that came before, and was lost: what is raised goes no further where Python finalizes an object, say."""
        self._hear = hear
        if self._told:
            hear(self._told, None)

    def ignore(self) -> None:
        """At the end: the interpreter takes a while to end, and no handler stays for that."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # the system sends it, and the shell too: it is no second signal
            signal.signal(number, signal.SIG_IGN)
        if self._hear is not None:
            self._hear(number, frame)
        elif not self._told:
            self._told = number
            raise Stopped(signal.Signals(number).name)


@contextmanager
def held_back() -> Iterator[None]:
    """A process started meanwhile gets none before it calls `let_through`: until it has imported what hears them,
    Python would end it with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
