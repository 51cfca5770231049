"""A folder with a part of a model: its texts and headers whole, its weights as far as one rank of a group needs them.

A weight file that was not downloaded ends behind its header. `PART_FILE` holds what names the whole model, so that the
ranks can tell that they run the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .safetensors_file import header_bytes, read_header

PART_FILE = ".omlx_part"


def whole_name(folder: Path) -> str | None:
    """What names the model that the folder holds a part of; None for a folder with a whole one."""
    try:
        return (folder / PART_FILE).read_text()
    except FileNotFoundError:
        return None


def lacks_data(file: Path) -> bool:
    """Whether a weight file was not downloaded."""
    header = read_header(file, may_lack_data=True)
    return header.size_bytes > 0 and file.stat().st_size == header_bytes(file)


@contextmanager
def loadable(folder: Path) -> Iterator[Path]:
    """The folder as MLX can load it lazily, for the length of the block.

    Files without data look whole in it, so that MLX takes their tensors' shapes. To read such a tensor
    afterwards fails.
    """
    if whole_name(folder) is None:
        yield folder
        return
    with TemporaryDirectory(prefix="omlx-part-") as name, ExitStack() as stack:
        for file in folder.iterdir():
            stand_in = Path(name) / file.name
            if file.suffix == ".safetensors" and lacks_data(file):
                _write_hollow(file, stand_in)
                stack.callback(_empty, stand_in)
            else:
                stand_in.symlink_to(file.resolve())
        yield Path(name)


def _write_hollow(file: Path, target: Path) -> None:
    """The header, and behind it a hole of the data's size, which takes no room on the disk."""
    shutil.copyfile(file, target)
    with target.open("r+b") as opened:
        opened.truncate(header_bytes(file) + read_header(file, may_lack_data=True).size_bytes)


def _empty(file: Path) -> None:
    """MLX still has the file open, and must find nothing in it."""
    with file.open("r+b") as opened:
        opened.truncate(0)
