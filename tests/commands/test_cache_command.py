"""`omlx cache clear` takes what is ours, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Run


def test_cached_prefixes_and_openings_go_and_everything_else_stays(run: Run, home: Path):
    mine = [
        home / "cache" / ("ab" * 16) / f"{'0' * 64}.safetensors",
        home / "cache" / ("cd" * 16) / f"{'0' * 64}.123.part",
        home / "cache" / "rank1of2" / ("cd" * 16) / f"{'0' * 64}.safetensors",
        home / "openings" / "claude" / "tiny",
    ]
    others = [
        home / "cache" / "model.safetensors",
        home / "cache" / "my-model" / "model.safetensors",
        home / "cache" / ("ab" * 16) / "model.safetensors",
        home / "cache" / ("ab" * 16) / "notes.txt",
        home / "models" / "tiny" / "model.safetensors",
    ]
    for file in [*mine, *others]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    assert run("cache", "clear").stdout == f"Removed 4 files of {home}/cache, 20 B\n"
    assert [file for file in mine if file.exists()] == []
    assert [file for file in others if not file.exists()] == []
    assert json.loads(run("cache", "clear", "--json").stdout)["num_files"] == 0


def test_without_a_cache_there_is_nothing_to_clear(run: Run, home: Path):
    assert run("cache", "clear").stdout == f"Removed 0 files of {home}/cache, 0 B\n"
