"""The prefix cache on disk: one safetensors file a block, in one folder a model.

The folder is its own manifest: a file's name says which block it holds, whose child it is, how many tokens it has,
where a sequence can go on from it, and the checksum of all this and its contents. So nothing is opened at start, and a
file that was cut, changed or renamed is found out, deleted and missed. Its head tells the tokens, for prompts that
share some and not all. Files appear under their name only when they are whole. Recency is the modification time. What
omlx did not write there is neither counted nor removed.

Prompts lie in these files, so nobody but their owner may read them. A disk that is full, read-only or
gone is no error: the tier takes nothing for a minute, says why in `trouble`, and tries again. So it does where what
may be written in a day is used up, until the next one.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..private_folder import make_private
from .block_file import DIVISIBLE, PASSABLE, RESUMABLE, SUFFIX, BlockFile, checksum, read_checked, short, write_all
from .blocks import BlockHash
from .folder_trouble import folder_trouble
from .followers import Followers
from .own_files import part_name, removed, scan
from .read_ahead import ReadAhead
from .tensor_file import DamagedFile
from .write_ledger import DailyBudget, locked, read_written

logger = logging.getLogger(__name__)

_MOMENT_SECONDS = 0.02
_QUEUED_BLOCKS = 4
_RETRY_SECONDS = 60.0
_SPARE = 64
"""What is counted anew is brought this part of the room below it, not to be counted for every block."""


class Payload(Protocol):
    @property
    def resumable(self) -> bool: ...
    @property
    def divisible(self) -> bool: ...


P = TypeVar("P", bound=Payload)


class PayloadCodec(Protocol[P]):
    """Payloads, and the tokens they are of, as bytes. `size` is what `encode` will give, `None` for a payload it
    cannot write; `encode` is called from the writer's thread. `decode` raises `DamagedFile`."""

    def size(self, payload: P, token_ids: Sequence[int], /) -> int | None: ...
    def encode(self, payload: P, token_ids: Sequence[int], /) -> bytes: ...
    def decode(self, raw: memoryview) -> P: ...


@dataclass(frozen=True, slots=True)
class DiskLimits:
    """Bytes. All models' files together never pass `max_bytes`, nor `free_share` of what the disk would have
    free without them. Blocks on their way to the disk hold `max_memory_bytes`, and one may begin below that and
    end above; those read ahead, no more than as much again."""

    max_bytes: int = 50 << 30
    max_bytes_per_day: int = 100 << 30
    free_share: float = 0.1
    max_memory_bytes: int = 1 << 30


class DiskTier(Generic[P]):
    """Implements `LowerTier` under `root`/`identity`. One thread calls; one encodes and writes, and some read ahead.

    `go_on` is called for every piece that has been read, by whichever thread reads."""

    def __init__(
        self,
        root: Path,
        identity: str,
        codec: PayloadCodec[P],
        limits: DiskLimits,
        today: Callable[[], date] = date.today,
        clock: Callable[[], float] = time.monotonic,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._folder = root / identity
        self._codec = codec
        self._limits = limits
        self._budget = DailyBudget(root, limits.max_bytes_per_day, today)
        self._clock = clock
        self._files: dict[str, BlockFile] = {}
        """Every block of every model by path, the least recently used first."""
        self._paths: dict[str, str] = {}
        """Our blocks' paths by name."""
        self._unusable: set[str] = set()
        """Paths that count and are not served: they could not be read, or were damaged and could not be removed."""
        self._followers = Followers()
        self._queued: dict[str, int] = {}
        """Names and sizes on their way to the disk."""
        self._queue: queue.Queue[tuple[str, int, Sequence[int], P] | None] = queue.Queue(_QUEUED_BLOCKS)
        """The first parts of files' names, their sizes, and the tokens and payloads that are to stand in them."""
        self._memory_bytes = 0
        """Of blocks that are queued or being written. Under the queue's lock."""
        self._written: queue.SimpleQueue[tuple[str, BlockFile | str]] = queue.SimpleQueue()
        """Names, and the files or why there are none."""
        self._foreign_bytes = 0
        """Of files that other engines are writing; each has its whole size from the start."""
        self._counted: int | None = None
        """The ledger's sum of all blocks, as far as they are in our books; None while those may lack some."""
        self._trouble = ""
        self._told: set[str] = set()
        """What the log has heard of since all was well."""
        self._retry_at = 0.0
        self._num_damaged = 0
        self._written_bytes = 0
        try:
            make_private(self._folder)
            with locked(root):
                self._scan()
                self._make_room(0)
        except OSError as error:
            self._fail(folder_trouble(root, error))
        self._ahead = ReadAhead(lambda path: read_checked(path, go_on), limits.max_memory_bytes)
        self._writer = threading.Thread(target=self._write_queued, name="cache-writer", daemon=True)
        self._writer.start()

    @property
    def nbytes(self) -> int:
        return sum(file.nbytes for file in self._files.values())

    @property
    def trouble(self) -> str:
        """Why nothing is kept on disk for now; "" where all is well."""
        self._collect()
        return self._trouble or self._budget.trouble

    @property
    def num_damaged(self) -> int:
        """Files that were found damaged, and removed, since the start."""
        return self._num_damaged

    @property
    def written_bytes(self) -> int:
        """Bytes of blocks that reached the disk since the start."""
        self._collect()
        return self._written_bytes

    def holds(self, name: BlockHash) -> bool:
        self._collect()
        return name.hex() in self._paths

    def is_resumable(self, name: BlockHash) -> bool:
        return self._files[self._paths[name.hex()]].use in (DIVISIBLE, RESUMABLE)

    def is_divisible(self, name: BlockHash) -> bool:
        return self._files[self._paths[name.hex()]].use == DIVISIBLE

    def tails(self, parent: BlockHash) -> Sequence[int]:
        return self._followers.tails(parent)

    def children(self, parent: BlockHash, divisible: bool = False) -> Sequence[tuple[BlockHash, tuple[int, ...]]]:
        return self._followers.of(parent, divisible)

    def fetch(self, names: Sequence[BlockHash]) -> None:
        paths = filter(None, (self._paths.get(name.hex()) for name in names))
        self._ahead.begin({path: self._files[path].nbytes for path in paths})

    def is_fetching(self, names: Sequence[BlockHash]) -> bool:
        return any(self._ahead.is_under_way(self._paths.get(name.hex(), "")) for name in names)

    def read(self, name: BlockHash) -> P | None:
        self._collect()
        path = self._paths.get(name.hex())
        if path is None:
            return None
        file = self._files[path]
        try:
            return self._codec.decode(self._ahead.take(path))
        except FileNotFoundError:
            self._forget(file)
        except DamagedFile as error:
            logger.warning("cache file %s is not used and removed: %s", path, error)
            self._num_damaged += 1
            self._hide(file)
            self._remove(file)
        except OSError as error:
            self._fail(f"{self._folder} cannot be read: {error.strerror or error}")
            self._hide(file)
        except (MemoryError, RuntimeError) as error:  # a RuntimeError is what MLX raises without memory
            self._fail(f"{self._folder} cannot be read: {error or type(error).__name__}")
        return None

    def write(self, name: BlockHash, parent: BlockHash, token_ids: Sequence[int], payload: P) -> bool:
        self._collect()
        if name.hex() in self._queued or self._touch(name):
            return True
        if not self._is_open() or (self._trouble and self._clock() < self._retry_at) or self._budget.trouble:
            return False
        nbytes = self._codec.size(payload, token_ids)
        if nbytes is None or not self._reserve(name.hex(), nbytes):
            return False
        use = DIVISIBLE if payload.divisible else RESUMABLE if payload.resumable else PASSABLE
        self._queued[name.hex()] = nbytes
        self._hold(nbytes)
        self._queue.put((f"{name.hex()}.{short(parent)}.{len(token_ids)}{use}", nbytes, token_ids, payload))
        return True

    def has_room(self, may_wait: bool = True) -> bool:
        with self._queue.not_full:
            return self._queue.not_full.wait_for(self._is_open, _MOMENT_SECONDS if may_wait else 0.0)

    def used(self, names: Sequence[BlockHash]) -> set[BlockHash]:
        held = [name for name in names if name.hex() in self._paths]
        return {name for name in held if not self._touch(name)}

    def close(self) -> None:
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()
        self._ahead.close()
        self._collect()

    def _fail(self, trouble: str, kind: str = "") -> None:
        """Take nothing for a while, and then look what is there first; the log hears of each kind once."""
        if (kind or trouble) not in self._told:
            logger.warning("prompt prefixes are not kept on disk for now: %s", trouble)
        self._told.add(kind or trouble)
        self._trouble, self._counted = trouble, None
        self._retry_at = self._clock() + _RETRY_SECONDS

    def _scan(self) -> None:
        self._counted = None
        counted = read_written(self._root).in_all
        there = scan(self._root, self._folder, [str(self._part(name)) for name in self._queued])
        self._files, self._paths, self._foreign_bytes = {}, {}, there.foreign_bytes
        self._followers.clear()
        for file in there.files:
            self._add(file)
        self._unusable.intersection_update(self._files)
        self._counted = counted

    def _add(self, file: BlockFile) -> None:
        path = str(file.path)
        self._files.pop(path, None)
        self._files[path] = file
        if file.path.parent == self._folder and file.checksum and path not in self._unusable:
            self._paths[file.name] = path
            self._followers.add(file)

    def _touch(self, name: BlockHash) -> bool:
        """Mark the block as the last used; whether there is one. A file that others have removed is found out here."""
        path = self._paths.get(name.hex())
        if path is None:
            return False
        file = self._files[path]
        try:
            os.utime(path)
        except FileNotFoundError:
            self._forget(file)
            return False
        except OSError:
            pass  # it is there, as far as we know
        self._files[path] = self._files.pop(path)
        self._followers.add(file)
        return True

    def _hide(self, file: BlockFile) -> None:
        """Serve the block no more, until it is written anew. Its file still takes its room."""
        self._unusable.add(str(file.path))
        if self._paths.get(file.name) == str(file.path):
            del self._paths[file.name]
            self._followers.remove(file)

    def _forget(self, file: BlockFile) -> None:
        self._hide(file)
        self._unusable.discard(str(file.path))
        self._files.pop(str(file.path), None)

    def _remove(self, file: BlockFile) -> bool:
        """Whether it is gone. While it is not, it counts."""
        if is_gone := removed(file.path):
            self._forget(file)
        return is_gone

    def _reserve(self, name: str, nbytes: int) -> bool:
        """Make room for a file of so many bytes, and take it, against all other engines; whether there is."""
        try:
            make_private(self._folder)
            with locked(self._root):
                if not self._budget.allows(nbytes) or not self._make_room(nbytes):
                    return False
                self._budget.spend(nbytes)
                assert self._counted is not None, "a file is taken room for by books that may lack some"
                self._counted += nbytes
                with open(os.open(self._part(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as part:
                    os.ftruncate(part.fileno(), nbytes)
        except OSError as error:
            removed(self._part(name))
            self._fail(folder_trouble(self._root, error))
            return False
        return True

    def _part(self, name: str) -> Path:
        return self._folder / part_name(name)

    @property
    def _held_bytes(self) -> int:
        return self.nbytes + sum(self._queued.values()) + self._foreign_bytes

    def _make_room(self, nbytes: int) -> bool:
        """Remove the least recently used files until so many bytes fit; whether they can."""
        held, spare = self._held_bytes, 0
        free = shutil.disk_usage(self._folder).free
        room = min(self._limits.max_bytes, int((free + held) * self._limits.free_share))
        news = None if self._counted is None else read_written(self._root).in_all - self._counted
        if news is None or news < 0 or (news and held + news + nbytes > room):
            self._scan()
            held = self._held_bytes
            spare = min(room // _SPARE, max(0, room - nbytes))
        if nbytes > room:
            if room < self._limits.max_bytes:
                self._fail(f"the disk of {self._root} is full: {free >> 20} MiB are free", kind="full")
            return False
        if held - self.nbytes + nbytes > room:  # beside what is being written
            return False
        stuck = 0
        for file in list(self._files.values()):
            if held + nbytes + spare <= room:
                break
            if self._remove(file):
                held -= file.nbytes
            else:
                stuck += 1
                self._add(file)  # tried last the next time
        if stuck and held + nbytes > room:
            self._fail(f"{stuck} files in {self._root} cannot be removed, and there is no room for more", kind="stuck")
        return held + nbytes <= room

    def _collect(self) -> None:
        """Take note of what the writer has finished."""
        while not self._written.empty():
            name, file = self._written.get()
            self._queued.pop(name, None)
            if isinstance(file, str):
                self._fail(file)
                continue
            self._unusable.discard(str(file.path))
            self._add(file)
            self._written_bytes += file.nbytes
            if self._trouble:
                logger.warning("prompt prefixes are kept on disk again")
                self._trouble = ""
                self._told.clear()

    def _is_open(self) -> bool:
        return len(self._queue.queue) < _QUEUED_BLOCKS and self._memory_bytes < self._limits.max_memory_bytes

    def _hold(self, nbytes: int) -> None:
        """So many bytes more, or fewer."""
        with self._queue.not_full:
            self._memory_bytes += nbytes
            self._queue.not_full.notify()

    def _write_queued(self) -> None:
        while (item := self._queue.get()) is not None:
            stem, nbytes, token_ids, payload = item
            self._written.put((stem.partition(".")[0], self._write_file(stem, token_ids, payload)))
            self._hold(-nbytes)
            del item, payload  # or it would stay in memory until the next one comes

    def _write_file(self, stem: str, token_ids: Sequence[int], payload: P) -> BlockFile | str:
        """The file, or why there is none."""
        part = self._part(stem.partition(".")[0])
        try:
            raw = self._codec.encode(payload, token_ids)
            file = BlockFile.parse(self._folder / f"{stem}.{checksum(stem + '.', raw)}{SUFFIX}", len(raw))
            with open(os.open(part, os.O_WRONLY | os.O_CREAT, 0o600), "wb", buffering=0) as created:
                write_all(created.fileno(), raw)
                os.ftruncate(created.fileno(), len(raw))
            part.rename(file.path)
        except (OSError, MemoryError, RuntimeError) as error:  # a RuntimeError is what MLX raises without memory
            removed(part)
            why = getattr(error, "strerror", None) or error or type(error).__name__
            return f"{self._folder} cannot be written: {why}"
        return file
