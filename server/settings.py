"""The server's settings, as values that are passed to whoever needs them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SettingsError


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What `omlx serve` runs with.

    `home` is omlx's own folder; `model_dirs` are searched for models in order. Times in seconds.
    """

    home: Path
    model_dirs: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = field(default="", repr=False)
    max_body_bytes: int = 64 * 1024 * 1024
    heartbeat_seconds: float = 10.0
    shutdown_grace_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.api_key and not self.is_loopback:
            raise SettingsError(
                f"--host {self.host} opens the server to the network, and no key is set. "
                "Set OMLX_API_KEY to a key of your own, or serve on 127.0.0.1"
            )

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def state_file(self) -> Path:
        """Where a running server says how to reach it."""
        return self.home / "run" / "server.json"

    @property
    def cache_folder(self) -> Path:
        """Where prompt prefixes outlive the process."""
        return self.home / "cache"
