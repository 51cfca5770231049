"""The other ranks where there are none."""

from __future__ import annotations

from omlx.server.engine.messages import RankMemory


class Nobody:
    """The other ranks of a group of one."""

    def memory(self) -> list[RankMemory]:
        return []

    def wake(self) -> None: ...

    def lost(self) -> str:
        return ""

    def close(self) -> None: ...
