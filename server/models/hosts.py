"""The host file of mlx.launch: which machines take part, in the order of their ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import SettingsError

BACKENDS = ("ring", "jaccl", "jaccl-ring", "mpi", "nccl")
"""What mlx.launch calls MLX's back ends."""
_GB = 10**9
_EXAMPLE = '[{"ssh": "mac-1", "ips": ["10.0.0.1"]}, …]'


class _Host(msgspec.Struct):
    ssh: str
    ips: list[str] = []
    memory_gb: float | None = None


class _File(msgspec.Struct):
    hosts: list[_Host]
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """`name` is what ssh calls it. `memory_bytes` is what the file says of it, under `memory_gb`, which is ours."""

    name: str
    memory_bytes: int | None = None

    @property
    def is_this_machine(self) -> bool:
        """As mlx.launch sees it: no ssh is needed."""
        return self.name == "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HostFile:
    path: Path
    hosts: tuple[Host, ...]
    backend: str

    @classmethod
    def read(cls, path: Path) -> HostFile:
        """Raises `SettingsError` for a file that mlx.launch could not use either."""
        try:
            content = path.read_bytes()
            file = msgspec.json.decode(content, type=list[_Host] | _File)
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be read ({error.strerror or error}); name the host file that mlx.launch is given, "
                f"like {_EXAMPLE}"
            ) from error
        except msgspec.MsgspecError as error:
            raise SettingsError(f"{path}: no host file of mlx.launch ({error}); it reads {_EXAMPLE}") from error
        hosts, backend = (file, "") if isinstance(file, list) else (file.hosts, file.backend)
        if not hosts:
            raise SettingsError(f"{path}: names no host; write an entry for each machine, like {_EXAMPLE}")
        memories = [None if host.memory_gb is None else int(host.memory_gb * _GB) for host in hosts]
        named = tuple(Host(host.ssh, memory) for host, memory in zip(hosts, memories, strict=True))
        return cls(path, named, backend or "ring")
