"""The parts of this machine that commands depend on, as a value: tests hand in their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .address import ServerAddress, is_loopback, normalised, resolve
from .state import OmlxHome, read_server_state, read_text


@dataclass(frozen=True, slots=True)
class Machine:
    environ: Mapping[str, str]
    user_home: Path
    directory: Path

    @property
    def omlx_home(self) -> OmlxHome:
        return OmlxHome.of(self.environ, self.user_home)

    @property
    def users_environ(self) -> dict[str, str]:
        """Without the variables that lead to files of ours: those of an agent that was launched and is above us, or of
        a shell that took the lines for it."""
        home = self.omlx_home
        return {name: value for name, value in self.environ.items() if not home.is_of_a_launch(value)}

    @property
    def memory_bytes(self) -> int:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def is_own_server(self, url: str) -> bool:
        """Whether the server at `url` is the one that runs from our home, and so takes the keys of our home."""
        state = read_server_state(self.omlx_home)
        if state is None:
            return False
        own = normalised(state.url, "the server's state file")
        is_local = is_loopback(url) and is_loopback(own) and urlsplit(url).scheme == "http"
        return url == own or (is_local and urlsplit(url).port == urlsplit(own).port)

    def resolve(self, url: str | None) -> ServerAddress:
        home = self.omlx_home
        return resolve(url, self.environ, lambda: read_server_state(home), lambda: read_text(home.settings))
