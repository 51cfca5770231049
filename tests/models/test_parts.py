"""A rank of a group downloads the headers of a model's weights, and of the weights only the files with its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from omlx.server.cache.fingerprint import model_fingerprint
from omlx.server.errors import CorruptModel, DownloadFailed, SettingsError
from omlx.server.following import the_model
from omlx.server.models.catalog import ModelKind, read_entry
from omlx.server.models.hub import Hub, pull_headers
from omlx.server.models.loading import load_model
from omlx.server.models.part_fetching import fetch_part
from omlx.server.models.part_folder import lacks_data, whole_name
from omlx.server.models.sharding import outline_part
from omlx.server.models.shares import Place, shares
from omlx.server.models.split import Split

from ..engine.ranks.models import shard_by_layers, shard_name, write_mixture
from .fake_hub import FakeHub, running_hub

REPO = "org/model"
MINE = [[0, 3, 4], [0, 1, 2]]
"""The shards of two ranks of a pipeline: the last two layers, and the first two; the first shard is in no layer."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shard_by_layers(write_mixture(tmp_path_factory.mktemp("whole") / "model"))


@pytest.fixture
def fake(whole: Path) -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.files = {file.name: file.read_bytes() for file in whole.iterdir()}
        yield hub


def hub_of(fake: FakeHub) -> Callable[[], Hub]:
    return lambda: Hub(fake.url, pause_seconds=0.0)


def fetch(fake: FakeHub, folder: Path, rank: int, split: Split = Split.PIPELINE) -> Path:
    pull_headers(REPO, folder, hub_of(fake)())
    fetch_part(folder, Place(rank, 2), split, hub_of(fake))
    return folder


def parameters(folder: Path, rank: int) -> dict[str, mx.array]:
    loaded = load_model(folder, lambda folder: outline_part(folder, Place(rank, 2), Split.PIPELINE)[0])
    return dict(tree_flatten(loaded.model.parameters()))  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_of_a_pipeline_gets_what_it_needs_and_loads_it(fake: FakeHub, whole: Path, tmp_path: Path, rank: int):
    folder = fetch(fake, tmp_path / "part", rank)
    assert sorted(fake.downloaded) == [shard_name(number) for number in MINE[rank]]
    found, expected = parameters(folder, rank), parameters(whole, rank)
    assert found.keys() == expected.keys()
    assert all(mx.array_equal(found[name], array).item() for name, array in expected.items())


def test_what_is_there_is_not_asked_for_again(fake: FakeHub, tmp_path: Path):
    fetch(fake, tmp_path / "part", 0)
    asked = len(fake.requests)
    fetch(fake, tmp_path / "part", 0)
    assert len(fake.requests) == asked
    fake.requests.clear()
    fetch(fake, tmp_path / "part", 1)  # another place in the group: only what is still missing
    assert sorted(fake.downloaded) == [shard_name(1), shard_name(2)]


def test_a_download_that_broke_off_goes_on_where_it_ended(fake: FakeHub, whole: Path, tmp_path: Path):
    pull_headers(REPO, tmp_path / "part", hub_of(fake)())
    fake.cuts = [1000] * 3 + [0] * 20
    with pytest.raises(DownloadFailed):
        fetch(fake, tmp_path / "part", 0)
    fake.cuts = []
    fake.requests.clear()
    folder = fetch(fake, tmp_path / "part", 0)
    assert any(range_ and not range_.startswith("bytes=0-") for _, _, _, range_, _ in fake.requests)
    for number in MINE[0]:
        assert (folder / shard_name(number)).read_bytes() == (whole / shard_name(number)).read_bytes()


def test_a_rank_with_slices_of_every_layer_needs_every_file(fake: FakeHub, whole: Path, tmp_path: Path):
    folder = fetch(fake, tmp_path / "part", 1, Split.TENSOR)
    assert not any(lacks_data(file) for file in folder.glob("*.safetensors"))
    assert sorted(fake.downloaded) == sorted(file.name for file in whole.glob("*.safetensors"))


def test_a_tensor_that_was_not_downloaded_is_never_read_as_numbers(fake: FakeHub, tmp_path: Path):
    folder = fetch(fake, tmp_path / "part", 0)
    with pytest.raises(CorruptModel, match="its weights cannot be read"):
        load_model(folder)


def test_all_parts_bear_one_name_and_tell_the_whole_model_s_size(fake: FakeHub, whole: Path, tmp_path: Path):
    parts = [fetch(fake, tmp_path / f"part{rank}", rank) for rank in (0, 1)]
    assert len({model_fingerprint(part, whole=whole_name(part)) for part in parts}) == 1
    for part in parts:
        assert read_entry(part, REPO).size_bytes == read_entry(whole, REPO).size_bytes
        assert shares(part, 2, Split.PIPELINE, 100) == shares(whole, 2, Split.PIPELINE, 100)


def test_a_header_that_is_none_is_refused(fake: FakeHub, tmp_path: Path):
    fake.files[shard_name(1)] = b"\xff" * 100
    with pytest.raises(CorruptModel, match="no safetensors file"):
        pull_headers(REPO, tmp_path / "part", hub_of(fake)())
    assert not (tmp_path / "part").exists()


def test_a_group_takes_a_model_that_is_not_here_from_the_hub(fake: FakeHub, whole: Path, tmp_path: Path):
    entry: Any = the_model([], REPO, tmp_path / "rank1of2", hub_of(fake))
    assert (entry.id, entry.path) == (REPO, tmp_path / "rank1of2" / "org" / "model")
    assert fake.downloaded == []
    here = read_entry(whole, "here")
    assert the_model([here], None, tmp_path, hub_of(fake)) is here
    with pytest.raises(SettingsError, match="Models here: here"):
        the_model([here], "other", tmp_path, hub_of(fake))
    with pytest.raises(SettingsError, match="here writes no text"):
        the_model([replace(here, kind=ModelKind.EMBEDDING)], None, tmp_path, hub_of(fake))
