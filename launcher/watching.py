"""Waits in the background for the agent's first request, and says where it goes instead.

    watch_in_background(arrival, environ)     beside the launch, before it becomes the agent
    python -m omlx.launcher.watching …        what that starts; it ends with the first request, or with the agent

It is said once it is clear: the agent was seen connected elsewhere, and for some seconds after that it asked nothing
here. The agent owns the terminal while it runs, and may draw on all of it: so what would stand there is printed when
it has ended, and `omlx status` says it before. Where standard error is no terminal, it is printed at once.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..integrations.spec import KEY_VARIABLE
from .arrival import Arrival
from .connections import Peer, peers_of
from .state import OmlxHome
from .strays import Stray, forget, note

CLEAR_SECONDS = 15.0
"""Agents look for updates and the like before they ask; a connection as old as this isn't that."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0
_DETACHED = '"$@" </dev/null >/dev/null &'
"""The shell ends at once, so that the agent never has this process for a child."""


def watch_in_background(arrival: Arrival, environ: Mapping[str, str], home: OmlxHome) -> None:
    """Watch the process that this one is about to become. What cannot be watched is launched all the same."""
    watched = (str(home.root), str(os.getpid()), arrival.url, arrival.launch_id, arrival.title)
    command = [sys.executable, "-P", "-m", __name__, *watched]
    environment = {**environ, KEY_VARIABLE: arrival.api_key}
    subprocess.run(["/bin/sh", "-c", _DETACHED, "sh", *command], env=environment, start_new_session=True, check=False)


def watch(
    num_requests: Callable[[], int | None],
    has_ended: Callable[[float], bool],
    peers: Callable[[], set[Peer]],
    say: Callable[[set[Peer]], None],
) -> set[Peer]:
    """Whom the agent was connected to, where it ended without a request; else nobody.

    `num_requests` is None where the server does not say; `has_ended` waits for at most so many seconds; `say` is told
    once that it is clear.
    """
    seen: set[Peer] = set()
    pause = _FIRST_PAUSE
    seconds_elsewhere = 0.0
    ended = is_said = False
    while not ended:
        ended = has_ended(pause)
        if num_requests() != 0:
            return set()
        now = peers()
        seconds_elsewhere += pause if seen else 0.0
        seen |= now
        if seconds_elsewhere >= CLEAR_SECONDS and now and not ended and not is_said:
            say(now)
            is_said = True
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return seen


def told(title: str, url: str, seen: set[Peer]) -> str:
    return (
        f"omlx: {title} ended without a request to {url}; it was connected to {', '.join(_names(seen))}. "
        "If it answered you, a setting of its own leads it there."
    )


def _names(peers: set[Peer]) -> tuple[str, ...]:
    return tuple(sorted(f"{host}:{port}" for host, port in peers))


def _num_requests(url: str, launch_id: str, api_key: str) -> int | None:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=10)
    try:
        headers = {"authorization": f"Bearer {api_key}"}
        connection.request("GET", f"{parts.path}/v1/launches/{launch_id}", headers=headers)
        answer = connection.getresponse()
        return json.loads(answer.read())["num_requests"] if answer.status == 200 else None
    except (OSError, ValueError, LookupError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _end_of(pid: int) -> Callable[[float], bool]:
    """Tells whether the process has ended, waiting for it for some seconds; at once when it ends."""
    if sys.platform == "linux":
        handle = os.pidfd_open(pid)
        return lambda seconds: bool(select.select([handle], [], [], seconds)[0])
    kernel = select.kqueue()
    event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
    kernel.control([event], 0)
    return lambda seconds: bool(kernel.control(None, 1, seconds))


def main() -> None:
    root, number, url, launch_id, title = sys.argv[1:]
    home, pid = OmlxHome(Path(root)), int(number)
    api_key = os.environ[KEY_VARIABLE]
    try:
        has_ended = _end_of(pid)
    except OSError:
        return  # it has ended already, or cannot be watched here
    is_printed = False

    def say(peers: set[Peer]) -> None:
        nonlocal is_printed
        stray = Stray(pid, title, url, _names(peers))
        note(home, stray)
        if not sys.stderr.isatty():
            print(f"omlx: {stray}", file=sys.stderr, flush=True)
            is_printed = True

    try:
        seen = watch(
            lambda: _num_requests(url, launch_id, api_key),
            has_ended,
            lambda: peers_of(pid, urlsplit(url).port, Path("/proc")),
            say,
        )
    finally:
        forget(home, pid)
    if seen and not is_printed:
        print(told(title, url, seen), file=sys.stderr)


if __name__ == "__main__":
    main()
