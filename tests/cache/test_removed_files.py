"""What is removed from the disk beside a running engine is kept there again as soon as it is used."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from omlx.server.cache.clearing import clear_disk
from omlx.server.cache.disk_tier import DiskLimits, DiskTier
from omlx.server.cache.prefix_cache import PrefixCache

from ..waiting import wait_until
from .test_disk_tier import MODEL, WIDE
from .test_prefix_cache import Block, found, remember
from .test_two_tiers import save_all

PROMPT = list(range(8 * 256))
LONGER = [*PROMPT, 5000]
NUM_BYTES = 4 * len(PROMPT)
ROOM = 1000


class BlockCodec:
    def size(self, _payload: Block, token_ids: Sequence[int]) -> int:
        return 4 * len(token_ids)

    def encode(self, _payload: Block, token_ids: Sequence[int]) -> bytes:
        return array("I", token_ids).tobytes()

    def decode(self, raw: memoryview) -> Block:
        return Block(tuple(array("I", raw.tobytes())))


@contextmanager
def started(folder: Path, limits: DiskLimits = WIDE) -> Iterator[PrefixCache[Block]]:
    cache = PrefixCache("m", ROOM, DiskTier(folder, MODEL, BlockCodec(), limits))
    yield cache
    cache.close()


def clear(folder: Path) -> None:
    assert clear_disk(folder, folder / "openings").size_bytes == NUM_BYTES


@pytest.mark.parametrize("is_in_memory", [True, False])
@pytest.mark.parametrize("remove", [clear, shutil.rmtree])
def test_a_prefix_used_after_its_files_were_removed_is_kept_as_a_whole(
    tmp_path: Path, remove: Callable[[Path], None], is_in_memory: bool
):
    folder = tmp_path / "cache"
    with started(folder) as cache:
        remember(cache, PROMPT)
        save_all(cache)
        wait_until(lambda: cache.lower_written_bytes == NUM_BYTES)
        remove(folder)
        if not is_in_memory:
            cache.bound(0)
            cache.bound(ROOM)
        assert found(cache, LONGER) == (len(PROMPT) if is_in_memory else 0)
        remember(cache, PROMPT)
        save_all(cache)
    assert cache.lower_written_bytes == 2 * NUM_BYTES
    with started(folder) as cache:
        assert found(cache, LONGER) == len(PROMPT)


def test_what_left_the_disk_for_others_is_not_written_again_while_memory_has_it(tmp_path: Path):
    prompts = [[first, *LONGER] for first in range(3)]
    with started(tmp_path, DiskLimits(max_bytes=NUM_BYTES, free_share=1.0)) as cache:
        for prompt in prompts:
            remember(cache, prompt[: len(PROMPT)])
            save_all(cache)
        assert [found(cache, prompt) for prompt in prompts] == [len(PROMPT)] * 3
        save_all(cache)
    assert cache.lower_written_bytes == 3 * NUM_BYTES
