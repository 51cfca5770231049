"""A real engine whose disk can fail: `python -m tests.engine.failing_disk_engine FILE ARGUMENTS`, those of the engine.

While FILE holds the number of an error, no file and no folder can be made: each is refused with it. The cache tries
again after a tenth of a second instead of a minute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omlx.server.cache import disk_tier
from omlx.server.engine.__main__ import main


def refusing(file: Path, real: Callable[..., Any], makes: Callable[[int], int]) -> Callable[..., Any]:
    def call(path: Any, flags: int = 0, *rest: Any, **options: Any) -> Any:
        if makes(flags) and file.exists() and (number := file.read_text()):
            raise OSError(int(number), os.strerror(int(number)), path)
        return real(path, flags, *rest, **options)

    return call


if __name__ == "__main__":
    error = Path(sys.argv[1])
    setattr(os, "open", refusing(error, os.open, lambda flags: flags & os.O_CREAT))  # noqa: B010
    setattr(os, "mkdir", refusing(error, os.mkdir, lambda _: True))  # noqa: B010
    setattr(disk_tier, "_RETRY_SECONDS", 0.1)  # noqa: B010
    sys.exit(main(sys.argv[2:]))
