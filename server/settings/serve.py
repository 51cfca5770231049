"""What `omlx serve` runs with, as one value that is passed to whoever needs it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SettingsError
from .layers import Configuration
from .values import CacheSettings, EngineSettings, size_in_bytes


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """`home` is omlx's own folder; `model_dirs` are searched for models in order. Times in seconds."""

    home: Path
    model_dirs: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str = field(default="", repr=False)
    max_body_bytes: int = 64 * 1024 * 1024
    heartbeat_seconds: float = 9.0
    shutdown_grace_seconds: float = 25.0
    cache: CacheSettings = field(default_factory=CacheSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    configuration: Configuration | None = field(default=None, repr=False, compare=False)
    """Every value with its origin; None where the settings were made by hand."""

    def __post_init__(self) -> None:
        if not self.api_key and not self.is_loopback:
            raise SettingsError(
                f"--host {self.host} opens the server to the network, and no key is set. "
                "Set OMLX_API_KEY to a key of your own, or serve on 127.0.0.1"
            )

    @classmethod
    def of(cls, configuration: Configuration, home: Path, api_key: str) -> ServeSettings:
        """Relative folders are taken from `home`. Raises `SettingsError`."""
        settings = configuration.settings
        server = settings.server
        return cls(
            home=home,
            model_dirs=tuple(home / Path(folder).expanduser() for folder in server.model_dirs or ("models",)),
            host=server.host,
            port=server.port,
            api_key=api_key,
            max_body_bytes=size_in_bytes(server.max_body_bytes),
            heartbeat_seconds=server.heartbeat_seconds,
            shutdown_grace_seconds=server.shutdown_grace_seconds,
            cache=settings.cache,
            engine=settings.engine,
            configuration=configuration,
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
    def settings_file(self) -> Path:
        return settings_file(self.home)

    @property
    def cache_folder(self) -> Path:
        """Where prompt prefixes outlive the process."""
        return self.home / Path(self.cache.folder or "cache").expanduser()


def omlx_home(environ: Mapping[str, str]) -> Path:
    """omlx's own folder: OMLX_HOME, else ~/.omlx."""
    return Path(environ.get("OMLX_HOME") or Path.home() / ".omlx").absolute()


def settings_file(home: Path) -> Path:
    return home / "settings.json"
