"""Which files of a hub's repository make a model: chosen by name, never by what they say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import UnsupportedModel

INDEX_FILE = "model.safetensors.index.json"

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
_LARGEST_TEXT = 128 << 20
_LARGEST_WEIGHTS = 50 * 10**9  # more in one file the hub does not give over plain HTTP
_TEXT_FILE = re.compile(
    r"[\w.-]+\.(json|jinja|txt|model|tiktoken)|(LICENSE|NOTICE)[\w.-]*|additional_chat_templates/[\w.-]+\.jinja"
    r"|[1-9]_(Pooling|Dense)/config\.json|[1-9]_Dense/model\.safetensors",
    re.ASCII,
)
_OTHER_FRAMEWORKS = re.compile(r".*\.(bin|msgpack|h5|pth)\.index\.json|requirements\.txt", re.ASCII)
_WEIGHTS = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `sha256` is known of large files, `git_sha1`, of git's blob, of the others."""

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def hash(self) -> str:
        return self.sha256 or self.git_sha1 or ""


def checked_repo(repo: str) -> str:
    """`repo` where it reads `organization/name`; it becomes a folder's name. Raises `UnsupportedModel`."""
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise UnsupportedModel(f"{repo!r} names no repository; write it like mlx-community/SmolLM2-135M-Instruct")
    return repo


def text_files(repo: str, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """What stands beside the weights: configs, tokenizer, templates, license, an embedding model's own small layers.
    No code, no pickles.

    Raises `UnsupportedModel` where the repository holds no model that omlx reads.
    """
    found = tuple(
        file
        for file in files
        if _TEXT_FILE.fullmatch(file.name) and not _OTHER_FRAMEWORKS.fullmatch(file.name) and file.size <= _LARGEST_TEXT
    )
    if not any(file.name == "config.json" for file in found):
        raise UnsupportedModel(f"{repo}: no config.json in it, so it is no model that omlx reads{_instead(files)}")
    if not any(_WEIGHTS.fullmatch(file.name) for file in files):
        raise UnsupportedModel(f"{repo}: no safetensors weights in it{_instead(files)}")
    return found


def weight_files(repo: str, files: Sequence[RemoteFile], indexed: Iterable[str]) -> tuple[RemoteFile, ...]:
    """The weights: every shard that the index names, else `model*.safetensors`. Raises `UnsupportedModel`."""
    by_name = {file.name: file for file in files if _WEIGHTS.fullmatch(file.name)}
    names = set(indexed)
    missing = sorted(names - by_name.keys())
    if missing:
        raise UnsupportedModel(f"{repo}: its index names {missing[0]}, which is not in it; ask its author")
    chosen = names or {name for name in by_name if name.startswith("model")}
    if not chosen:
        raise UnsupportedModel(f"{repo}: its weights have other names than model*.safetensors ({min(by_name)})")
    too_large = next((name for name in sorted(chosen) if by_name[name].size > _LARGEST_WEIGHTS), None)
    if too_large is not None:
        raise UnsupportedModel(f"{repo}: {too_large} is larger than the 50 GB a file may have; choose one with shards")
    return tuple(by_name[name] for name in sorted(chosen))


def _instead(files: Sequence[RemoteFile]) -> str:
    if any(file.name.endswith(".gguf") for file in files):
        return "; it holds GGUF files: download one and give it to `omlx import`, or choose one with safetensors"
    if any(file.name.endswith((".bin", ".pt", ".pth")) for file in files):
        return "; it holds pickles, which omlx never opens: choose one with safetensors"
    return ""
