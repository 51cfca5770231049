"""Why the cache folder cannot be used, in words with the remedy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ANOTHER = "choose another with `omlx config set cache.folder FOLDER`"
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def folder_trouble(folder: Path, error: OSError) -> str:
    """What the system said of `folder`, or what stands in its way, and what to do about it."""
    if error.errno in _IN_THE_WAY:
        places = (folder, *folder.parents)
        there = next((path for path in places if os.path.lexists(path) and not path.is_dir()), folder)
        return f"{folder} cannot be used: {there} is no folder; move it away, or {_ANOTHER}"
    remedy = "make room on its disk" if error.errno in _FULL else "correct its owner and mode"
    return f"{folder} cannot be used: {error.strerror or error}; {remedy}, or {_ANOTHER}"
