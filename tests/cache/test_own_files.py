"""The cache folder may be one that holds other things: only what omlx wrote is counted and removed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from omlx.server.cache.clearing import clear_disk, files_on_disk
from omlx.server.cache.disk_tier import DiskLimits

from .test_disk_tier import MODEL, OTHER_MODEL, ROOT, TOKENS, Text, disk, name, write

BLOCK = name(7).hex()
FEW = DiskLimits(max_bytes=300, free_share=1.0, max_memory_bytes=1)


@pytest.fixture
def ended() -> str:
    """A process that is no more."""
    return subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()


def put(file: Path, nbytes: int = 5000) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(nbytes))
    return file


def test_what_others_put_there_is_neither_counted_nor_removed(tmp_path: Path, ended: str):
    root, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    theirs = [
        root / "model.safetensors",
        root / f"{BLOCK}.safetensors",
        root / "my-model" / "model.safetensors",
        root / "my-model" / f"{BLOCK}.aa.256d.bb.safetensors",
        root / "my-model" / f"model.{ended}.part",
        root / "rank0of2-model" / OTHER_MODEL / f"{BLOCK}.safetensors",
        root / "rank0of2" / "my-model" / f"{BLOCK}.safetensors",
        root / "rank0of2" / f"{BLOCK}.safetensors",
        root / "rank0of2" / "rank0of2" / OTHER_MODEL / f"{BLOCK}.safetensors",
        root / ("ab" * 20) / f"{BLOCK}.safetensors",
        root / OTHER_MODEL / "model.safetensors",
        root / OTHER_MODEL / "notes.txt",
        root / OTHER_MODEL / f"model.{ended}.part",
        root / OTHER_MODEL / f"{BLOCK}.download.part",
        root / MODEL / "model.safetensors",
        elsewhere / f"{BLOCK}.safetensors",
    ]
    for file in theirs:
        put(file)
    (root / ("cd" * 16)).symlink_to(elsewhere)
    (root / MODEL / f"{name(8).hex()}.safetensors").symlink_to(elsewhere / f"{BLOCK}.safetensors")
    for _ in range(2):
        with disk(root, FEW) as tier:
            for number in range(6):
                assert write(tier, name(number), ROOT, TOKENS, Text(bytes(100)))
            tier.close()
            assert tier.nbytes == files_on_disk(root).size_bytes == 300
    assert [file for file in theirs if not file.exists()] == []
    assert clear_disk(root, tmp_path / "openings").num_files == 3
    assert [file for file in theirs if not file.exists()] == []


def test_blocks_of_all_models_ranks_and_makes_are_counted_and_leave_first(tmp_path: Path, ended: str):
    ours = [
        put(tmp_path / OTHER_MODEL / f"{BLOCK}.safetensors"),
        put(tmp_path / OTHER_MODEL / f"{BLOCK}.of.another.make.altogether.safetensors"),
        put(tmp_path / "rank1of2" / OTHER_MODEL / f"{BLOCK}.aa.256d.bb.safetensors"),
        put(tmp_path / "rank1of2" / MODEL / f"{BLOCK}.{ended}.part"),
        put(tmp_path / MODEL / f"{BLOCK}.aa.²d.bb.safetensors"),
    ]
    assert files_on_disk(tmp_path).num_files == len(ours)
    with disk(tmp_path, FEW) as tier:
        assert not tier.holds(name(7))
    assert [file for file in ours if file.exists()] == []


def test_a_ranks_folder_counts_with_all_others(tmp_path: Path):
    """One cap, one lock and one count for the whole folder."""
    with disk(tmp_path, FEW) as tier:
        assert write(tier, name(1), ROOT, TOKENS, Text(bytes(200)))
    with disk(tmp_path, FEW, f"rank0of2/{MODEL}") as rank:
        assert write(rank, name(1), ROOT, TOKENS, Text(bytes(200)))
    assert [file.parent.parent.name for file in tmp_path.rglob("*.safetensors")] == ["rank0of2"]
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file() and "." not in file.name) == [
        "lock",
        "written",
    ]
    with disk(tmp_path, FEW, f"rank0of2/{MODEL}") as rank:
        assert rank.read(name(1)) == Text(bytes(200))


def test_what_is_cleared_goes_from_every_ranks_folder(tmp_path: Path):
    mine = put(tmp_path / "rank1of2" / MODEL / f"{BLOCK}.aa.256d.bb.safetensors")
    assert clear_disk(tmp_path, tmp_path / "openings").size_bytes == 5000
    assert not mine.exists()
