"""What omlx remembers on this machine: where the server runs, and the model of the last launch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from . import files
from .errors import FileError, StateError


@dataclass(frozen=True, slots=True)
class OmlxHome:
    """omlx's own folder, `~/.omlx` or OMLX_HOME, and the places in it that the launcher knows."""

    root: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], user_home: Path) -> OmlxHome:
        return cls(Path(environ.get("OMLX_HOME") or user_home / ".omlx").absolute())

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def server_state(self) -> Path:
        return self.root / "run" / "server.json"

    @property
    def server_log(self) -> Path:
        return self.root / "logs" / "server.log"

    @property
    def start_output(self) -> Path:
        """What a server that we started says itself, apart from its log: why it could not start."""
        return self.root / "logs" / "start.log"

    @property
    def service_output(self) -> Path:
        return self.root / "logs" / "service.log"

    @property
    def server_lock(self) -> Path:
        """What a running server has locked."""
        return self.server_state.with_suffix(".lock")

    @property
    def last_models(self) -> Path:
        return self.root / "last_models.json"

    def run_directory(self, agent: str) -> Path:
        """Where files of single launches stand."""
        return self.root / "run" / agent

    def shell_directory(self, agent: str) -> Path:
        """Where files stand that lines for a shell name; they are not swept, since nobody knows how long it runs."""
        return self.root / "shell" / agent

    def is_of_a_launch(self, value: str) -> bool:
        """Whether this is the path of what was written for one launch, or one shell."""
        return value.startswith(tuple(f"{self.root}/{folder}/" for folder in ("run", "shell")))

    def wired_directory(self, agent: str) -> Path:
        """Where files of ours stand that an agent's own settings name."""
        return self.root / "wired" / agent


class ServerState(msgspec.Struct, frozen=True):
    """What a running server writes about itself; `url` is reachable from this machine."""

    pid: int
    host: str
    port: int
    url: str
    instance_id: str


def read_server_state(home: OmlxHome) -> ServerState | None:
    """The state of the server that says it runs here; None where there is none or its process is gone."""
    try:
        text = read_text(home.server_state)
        if text is None:
            return None
        state = msgspec.json.decode(text, type=ServerState)
    except msgspec.DecodeError as error:
        raise StateError(
            f"{home.server_state} does not parse ({error}); stop the server and delete that file"
        ) from error
    except FileError as error:
        raise StateError(f"{error}; stop the server and delete that file") from error
    return state if is_alive(state.pid) else None


def read_last_models(home: OmlxHome) -> dict[str, str]:
    """The model each agent was last launched with; empty where nothing readable stands there."""
    try:
        text = read_text(home.last_models)
        return {} if text is None else msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, FileError):
        return {}  # A convenience, not worth a refusal: the next launch writes it anew.


def remember_model(home: OmlxHome, agent: str, model: str) -> None:
    remembered = read_last_models(home)
    if remembered.get(agent) != model:
        content = msgspec.json.format(msgspec.json.encode({**remembered, agent: model}), indent=2).decode()
        with suppress(FileError):  # A convenience too: a full disk is no reason not to start the agent.
            write_private(home.last_models, content + "\n")


def read_text(path: Path) -> str | None:
    """The file's text, or None where there is no such file for us. Undecodable bytes become U+FFFD.

    Raises FileError for what cannot be read as a file: links in a circle, a pipe, more than 5 MB.
    """
    try:
        data = files.read_plain(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise files.file_error(path, "read", error) from error
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


@dataclass(frozen=True, slots=True)
class Looker:
    """Reads files that are only looked at: one that cannot be read counts as none, and `warnings` say so."""

    warnings: list[str] = field(default_factory=list)

    def read(self, path: Path) -> str | None:
        try:
            return read_text(path)
        except FileError as error:
            warning = f"{error}; what it sets is not known"
            if warning not in self.warnings:
                self.warnings.append(warning)
            return None


def glob(folder: Path, pattern: str) -> tuple[Path, ...]:
    """The files below the folder that match, in the order of their names; none where there is no such folder for us."""
    try:
        return tuple(sorted(path for path in folder.glob(pattern) if path.is_file()))
    except OSError:
        return ()


def write_private(path: Path, text: str) -> None:
    """Replace a file of ours at once; mode 0600, its new folders 0700. Raises FileError, and then leaves nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    made: tuple[Path, ...] = ()
    try:
        made = files.missing_folders(path)
        files.private_folder(path.parent)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except (OSError, FileError) as error:
        with suppress(OSError):
            temporary.unlink()
        files.remove_empty_folders(made)
        if isinstance(error, OSError):
            raise files.file_error(path, "write", error) from error
        raise


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
