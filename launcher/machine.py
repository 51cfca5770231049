"""The parts of this machine that commands depend on, as a value: tests hand in their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .address import ServerAddress, resolve
from .state import OmlxHome, read_server_state


@dataclass(frozen=True, slots=True)
class Machine:
    environ: Mapping[str, str]
    user_home: Path
    directory: Path

    @property
    def omlx_home(self) -> OmlxHome:
        return OmlxHome.of(self.environ, self.user_home)

    def resolve(self, url: str | None) -> ServerAddress:
        return resolve(url, self.environ, lambda: read_server_state(self.omlx_home))
