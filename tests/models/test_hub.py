"""Downloads from the model hub: only what a model needs, resumed, checked, stopped, and with the token kept at home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omlx.server.errors import CorruptModel, DownloadCancelled, DownloadFailed, ModelError, UnsupportedModel
from omlx.server.models.catalog import discover
from omlx.server.models.downloading import DownloadProgress
from omlx.server.models.hub import Hub, PullRequest, discard, pull, read_source, stopped_downloads

from .fake_hub import COMMIT, FakeHub, running_hub, weights

REQUEST = PullRequest("org/model")
CONFIG = {"model_type": "llama", "max_position_embeddings": 4096}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = weights(300_000)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.files = {
            "config.json": json.dumps(CONFIG).encode(),
            "tokenizer.json": b"{}",
            "model.safetensors": WEIGHTS,
        }
        yield hub


def hub_of(fake: FakeHub, token: str | None = None) -> Hub:
    return Hub(fake.url, token, pause_seconds=0.0)


def test_a_pulled_model_is_found_and_says_where_it_is_from(fake: FakeHub, tmp_path: Path) -> None:
    told: list[DownloadProgress] = []
    pulled = pull(REQUEST, tmp_path, hub_of(fake), report=told.append)
    assert (pulled.path, pulled.commit, pulled.is_new) == (tmp_path / "org" / "model", COMMIT, True)
    assert (pulled.path / "model.safetensors").read_bytes() == WEIGHTS
    assert [entry.id for entry in discover([tmp_path])] == ["org/model"]
    source = read_source(pulled.path)
    assert source is not None
    assert (source.repo, source.commit, sorted(source.files)) == ("org/model", COMMIT, sorted(fake.files))
    whole = sum(map(len, fake.files.values()))
    assert (told[-1].done_bytes, told[-1].total_bytes, told[-1].done_files, told[-1].total_files) == (
        whole,
        whole,
        3,
        3,
    )
    assert [path.name for path in (tmp_path / "org").iterdir()] == ["model"]


def test_only_what_a_model_needs_is_fetched(fake: FakeHub, tmp_path: Path) -> None:
    unwanted = {
        "pytorch_model.bin": b"pickle",
        "pytorch_model.bin.index.json": b"{}",
        "modeling_evil.py": b"import os",
        "original/params.json": b"{}",
        "consolidated.safetensors": WEIGHTS,
        ".gitattributes": b"",
        "../escape.json": b"{}",
        "onnx/model.onnx": b"",
        "README.md": b"# A model",
        "requirements.txt": b"torch",
    }
    wanted = {"LICENSE": b"free", "chat_template.jinja": b"{{ messages }}", "tokenizer.model": b"pieces"}
    fake.files |= unwanted | wanted
    folder = pull(REQUEST, tmp_path, hub_of(fake)).path
    assert {path.name for path in folder.iterdir()} - {".omlx_source.json"} == fake.files.keys() - unwanted.keys()
    asked = {path.rpartition("/")[2] for _, _, path, _, _ in fake.requests}
    assert asked.isdisjoint(name.rpartition("/")[2] for name in unwanted)


def test_the_layers_behind_an_embedding_model_come_with_it(fake: FakeHub, tmp_path: Path) -> None:
    wanted = {"modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"}
    fake.files |= dict.fromkeys(wanted, b"[]") | {"2_Dense/pytorch_model.bin": b"pickle"}
    folder = pull(REQUEST, tmp_path, hub_of(fake)).path
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} >= wanted
    assert not (folder / "2_Dense" / "pytorch_model.bin").exists()


def test_the_index_says_which_shards_there_are(fake: FakeHub, tmp_path: Path) -> None:
    del fake.files["model.safetensors"]
    fake.files |= dict.fromkeys((*SHARDS, "model-of-another-kind.safetensors"), WEIGHTS)
    fake.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
    folder = pull(REQUEST, tmp_path, hub_of(fake)).path
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(SHARDS)


def test_an_answer_that_breaks_off_is_taken_up_where_it_ended(fake: FakeHub, tmp_path: Path) -> None:
    fake.cuts = [1000, 0, 2000]
    folder = pull(REQUEST, tmp_path, hub_of(fake)).path
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert fake.ranges("model.safetensors") == ["bytes=0-", "bytes=1000-", "bytes=1000-", "bytes=3000-"]


def test_a_stopped_download_goes_on_the_next_time(fake: FakeHub, tmp_path: Path) -> None:
    fake.cuts = [100_000]
    began = False

    def stop_after_the_first_piece() -> bool:
        nonlocal began
        began = began or (bool(fake.ranges("model.safetensors")) and not fake.cuts)
        return began

    with pytest.raises(DownloadCancelled, match="goes on from it"):
        pull(REQUEST, tmp_path, hub_of(fake), is_cancelled=stop_after_the_first_piece)
    assert discover([tmp_path]) == ()
    (part,) = (tmp_path / "org" / ".model.downloading").glob("model.safetensors.part-*")
    have = part.stat().st_size
    folder = pull(REQUEST, tmp_path, hub_of(fake)).path
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert fake.ranges("model.safetensors")[-1] == f"bytes={have}-"


def test_what_a_killed_download_left_is_taken_up(fake: FakeHub, tmp_path: Path) -> None:
    fake.cuts = [5000] + [0] * 5
    with pytest.raises(DownloadFailed, match="try again"):
        pull(REQUEST, tmp_path, hub_of(fake))
    told: list[DownloadProgress] = []
    pull(REQUEST, tmp_path, hub_of(fake), report=told.append)
    assert fake.ranges("model.safetensors")[-1] == "bytes=5000-"
    assert told[-1].done_bytes == told[-1].total_bytes


def test_a_storage_that_knows_no_ranges_starts_again(fake: FakeHub, tmp_path: Path) -> None:
    fake.cuts = [5000]
    fake.has_ranges = False
    told: list[DownloadProgress] = []
    folder = pull(REQUEST, tmp_path, hub_of(fake), report=told.append).path
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert told[-1].done_bytes == told[-1].total_bytes


def test_a_left_part_can_be_thrown_away(fake: FakeHub, tmp_path: Path) -> None:
    fake.cuts = [5000] + [0] * 5
    with pytest.raises(DownloadFailed):
        pull(REQUEST, tmp_path, hub_of(fake))
    assert discard(REQUEST, tmp_path)
    assert not discard(REQUEST, tmp_path)
    assert list((tmp_path / "org").iterdir()) == []


def test_damaged_bytes_are_thrown_away_and_never_become_a_model(fake: FakeHub, tmp_path: Path) -> None:
    fake.damages = 1
    with pytest.raises(DownloadFailed, match="org/model came damaged"):
        pull(REQUEST, tmp_path, hub_of(fake))
    assert not (tmp_path / "org" / "model").exists()
    assert (pull(REQUEST, tmp_path, hub_of(fake)).path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_model_that_is_there_is_not_fetched_again(fake: FakeHub, tmp_path: Path) -> None:
    pull(REQUEST, tmp_path, hub_of(fake))
    fake.requests.clear()
    assert not pull(REQUEST, tmp_path, hub_of(fake)).is_new
    assert len(fake.requests) == 1


def test_a_newer_commit_keeps_the_weights_that_are_the_same(fake: FakeHub, tmp_path: Path) -> None:
    pull(REQUEST, tmp_path, hub_of(fake))
    fake.commit = "beef" * 10
    fake.files["config.json"] = json.dumps(CONFIG | {"max_position_embeddings": 8192}).encode()
    fake.requests.clear()
    assert pull(REQUEST, tmp_path, hub_of(fake)).is_new
    assert [entry.context_window for entry in discover([tmp_path])] == [8192]
    assert fake.ranges("model.safetensors") == []


def test_a_revision_is_asked_for_by_name(fake: FakeHub, tmp_path: Path) -> None:
    assert pull(PullRequest("org/model", "main"), tmp_path, hub_of(fake)).commit == COMMIT
    with pytest.raises(DownloadFailed, match="no such revision"):
        pull(PullRequest("org/model", "v9"), tmp_path, hub_of(fake))


def test_the_token_goes_to_the_hub_and_to_nobody_else(fake: FakeHub, tmp_path: Path) -> None:
    fake.token = "hf_secret"
    with pytest.raises(DownloadFailed, match=r"gated: .*HF_TOKEN"):
        pull(REQUEST, tmp_path, hub_of(fake))
    fake.requests.clear()
    pull(REQUEST, tmp_path, hub_of(fake, "hf_secret"))
    assert fake.tokens("hub") == {"Bearer hf_secret"}
    assert fake.tokens("storage") == {None}
    assert "hf_secret" not in repr(hub_of(fake, "hf_secret"))


def test_the_token_of_a_login_goes_to_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_login")
    assert Hub.of({}).token == "hf_login"
    assert Hub.of({"HF_ENDPOINT": "https://mirror.example"}).token is None
    assert Hub.of({"HF_ENDPOINT": "https://mirror.example", "HF_TOKEN": "hf_chosen"}).token == "hf_chosen"
    with pytest.raises(DownloadFailed, match="is not https"):
        Hub.of({"HF_ENDPOINT": "http://mirror.example", "HF_TOKEN": "hf_chosen"})


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.safetensors": None}, "no safetensors weights in it"),
        ({"model.safetensors": None, "m.gguf": b"GGUF"}, "GGUF files: download one and give it to `omlx import`"),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "pickles, which omlx never opens"),
        ({"config.json": None}, "no config.json"),
        ({"config.json": json.dumps(CONFIG | {"model_file": "evil.py"}).encode()}, "its own code"),
        ({"model.safetensors": None, "weights.safetensors": WEIGHTS}, "other names than model"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "model-9.safetensors"}}'}, "its index names model-9"),
        ({"model.safetensors.index.json": b'{"weight_map": []}'}, "not an object"),
        ({"config.json": b"{"}, "not valid JSON"),
    ],
)
def test_what_omlx_cannot_use_is_refused_before_the_weights_are_fetched(
    fake: FakeHub, tmp_path: Path, files: dict[str, bytes | None], words: str
) -> None:
    merged = fake.files | files
    fake.files = {name: content for name, content in merged.items() if content is not None}
    with pytest.raises((UnsupportedModel, CorruptModel), match=words):
        pull(REQUEST, tmp_path, hub_of(fake))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(side == "hub" for side, *_ in fake.requests)


def test_what_does_not_fit_is_refused_before_the_weights_are_fetched(fake: FakeHub, tmp_path: Path) -> None:
    def refuse(folder: Path, num_bytes: int) -> None:
        assert (folder / "config.json").is_file()
        raise ModelError(f"{num_bytes} do not fit")

    with pytest.raises(ModelError, match=f"{len(WEIGHTS)} do not fit"):
        pull(REQUEST, tmp_path, hub_of(fake), check_fit=refuse)
    assert fake.ranges("model.safetensors") == []


def test_a_full_disk_is_told_before_the_weights_are_fetched(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000_000})())
    with pytest.raises(ModelError, match=r"has 100.0 MB free, .*omlx rm"):
        pull(REQUEST, tmp_path, hub_of(fake))
    assert fake.ranges("model.safetensors") == []


def test_a_name_of_ones_own_may_stand_alone_and_is_no_path(fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="write NAME or ORG/NAME"):
        pull(replace(REQUEST, name="a/b/c"), tmp_path, hub_of(fake))
    (tmp_path / ".alone.downloading").mkdir()
    assert stopped_downloads(tmp_path) == [(PullRequest("alone"), tmp_path / ".alone.downloading")]
    assert discard(replace(REQUEST, name="alone"), tmp_path)
    assert pull(replace(REQUEST, name="alone"), tmp_path, hub_of(fake)).path == tmp_path / "alone"


@pytest.mark.parametrize("repo", ["../x/y", "a/../b", "a", "a/b/c", "/etc/passwd", "a/.b", "a\\b/c", "", "a/b\n"])
def test_a_name_that_is_no_repository_is_refused_without_a_request(fake: FakeHub, tmp_path: Path, repo: str) -> None:
    with pytest.raises(UnsupportedModel, match="names no repository"):
        pull(PullRequest(repo), tmp_path, hub_of(fake))
    assert fake.requests == []


def test_an_unknown_repository_and_a_hub_that_is_away_are_told_apart(fake: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="there is no model org/other"):
        pull(PullRequest("org/other"), tmp_path, hub_of(fake))
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        pull(REQUEST, tmp_path, Hub("http://127.0.0.1:9"))


def test_a_folder_of_somebody_elses_is_left_alone(fake: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "org" / "model"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="not from the hub"):
        pull(REQUEST, tmp_path, hub_of(fake))
    assert (folder / "notes.txt").read_text() == "mine"


def test_two_downloads_of_one_model_do_not_meet(fake: FakeHub, tmp_path: Path) -> None:
    def meet(_folder: Path, _bytes: int) -> None:
        pull(REQUEST, tmp_path, hub_of(fake))

    with pytest.raises(DownloadFailed, match="by another process"):
        pull(REQUEST, tmp_path, hub_of(fake), check_fit=meet)
