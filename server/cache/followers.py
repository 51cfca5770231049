"""Which blocks on disk follow which, and the tokens they hold.

The tokens stand in the heads of the blocks' files, and are read when a prompt parts from what is cached: then those of
the blocks that follow the last one they share.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from .block_file import DIVISIBLE, BlockFile, read_token_ids, short
from .blocks import BLOCK_TOKENS, BlockHash, block_hash
from .tensor_file import DamagedFile

_MAX_FOLLOWERS = 64
"""Looked into for one prompt. A head takes a tenth of a millisecond to read."""
_MAX_KNOWN = 4096
_NONE = array("I")


class Followers:
    """The blocks of one folder, by the block before them."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, BlockFile]] = {}
        """By their parent and their name, the least recently used first."""
        self._known: dict[str, array[int]] = {}
        """The tokens of blocks by name; none of a file that does not say them."""

    def clear(self) -> None:
        """Forget which files there are."""
        self._files.clear()

    def add(self, file: BlockFile) -> None:
        """There is this one, and it has just been used."""
        siblings = self._files.setdefault(file.parent, {})
        siblings.pop(file.name, None)
        siblings[file.name] = file

    def remove(self, file: BlockFile) -> None:
        siblings = self._files.get(file.parent, {})
        siblings.pop(file.name, None)
        if not siblings:
            self._files.pop(file.parent, None)

    def tails(self, parent: BlockHash) -> list[int]:
        """The lengths of the partial blocks that follow, longest first."""
        lengths = {file.num_tokens for file in self._files.get(short(parent), {}).values()}
        return sorted(lengths - {BLOCK_TOKENS}, reverse=True)

    def of(self, parent: BlockHash, divisible: bool) -> list[tuple[BlockHash, tuple[int, ...]]]:
        """The names and tokens of blocks that follow, those used last; with `divisible`, of divisible ones only."""
        files = [file for file in self._files.get(short(parent), {}).values() if file.use == DIVISIBLE or not divisible]
        known = ((file, tuple(self._tokens(file, parent))) for file in files[: -_MAX_FOLLOWERS - 1 : -1])
        return [(file.block, token_ids) for file, token_ids in known if token_ids]

    def _tokens(self, file: BlockFile, parent: BlockHash) -> Sequence[int]:
        """What the file says, where that is what its block is named for: so no other prompt's, and nothing damaged."""
        if file.name not in self._known:
            try:
                token_ids = read_token_ids(file.path)
            except DamagedFile:
                token_ids = _NONE
            except OSError:
                return _NONE
            is_true = block_hash(parent, token_ids).hex() == file.name
            self._known[file.name] = token_ids if is_true else _NONE
            if len(self._known) > _MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return self._known[file.name]
