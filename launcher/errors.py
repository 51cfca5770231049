"""Every error the launcher raises on purpose, and the exit codes of `omlx`.

    LauncherError                1    a refusal; nothing was written
    ├── UnknownAgent             1    names the agents there are
    ├── AgentMissing             1    says how to install it
    ├── ModelError               1    unknown model, or a choice only the user can make
    ├── KeyNameError             1    a name that has a key already, has none, or can have none
    ├── WindowTooSmall           1    the agent cannot work in this model's window
    ├── StateError               1    a file of ours under the omlx home is unreadable
    ├── DocumentError            1    a text is not valid in its dialect; knows line and column
    ├── EditError                1    a change cannot be made, or would change more than was asked
    ├── FileError                1    a file cannot be read, locked or replaced; the old one is intact
    │   └── ForeignEdit          1    somebody else kept changing it meanwhile
    ├── SecretsError             1    a key cannot be kept, found or sent safely
    ├── ServiceError             1    launchd or systemd did not do what was asked
    └── ServerError              4    the server, not the request, is at fault
        ├── ServerDown           4    nothing answers at that address
        ├── StartFailed          4    it was started and did not become ready
        └── BadAnswer            4    it answered, but not as the protocol says

Exit codes: 0 done · 1 refused · 2 wrong usage · 3 `omlx probe`: an answer was wrong · 4 the server is down or broken ·
130 interrupted. After `omlx launch` has started the agent, the exit code is the agent's own.

A message says the fact and the remedy; it never holds a key.
"""

from __future__ import annotations

ANSWERS_WRONG = 3
ENDPOINT_BROKEN = 4
INTERRUPTED = 130


class LauncherError(Exception):
    """Base of all errors raised on purpose; `str(error)` is fit for a user's eyes."""

    exit_code = 1


class UnknownAgent(LauncherError):
    pass


class AgentMissing(LauncherError):
    pass


class ModelError(LauncherError):
    pass


class KeyNameError(LauncherError):
    pass


class WindowTooSmall(LauncherError):
    pass


class StateError(LauncherError):
    pass


class ServerError(LauncherError):
    exit_code = ENDPOINT_BROKEN


class ServerDown(ServerError):
    pass


class StartFailed(ServerError):
    pass


class BadAnswer(ServerError):
    pass


class DocumentError(LauncherError):
    def __init__(self, fact: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {fact}")
        self.fact = fact
        self.line = line
        self.column = column


class EditError(LauncherError):
    """`path` leads to what stands in the way, where it is one value."""

    def __init__(self, fact: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(fact)
        self.path = path


class FileError(LauncherError):
    pass


class ForeignEdit(FileError):
    pass


class SecretsError(LauncherError):
    pass


class ServiceError(LauncherError):
    pass
