"""What an integration is: data about one agent and pure functions of a `Target`.

A module of this folder binds `INTEGRATION`; nothing else has to know it. Its functions read the machine only through
`Surroundings`, write nothing, and give the same answer for the same input.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

KEY_VARIABLE = "OMLX_API_KEY"
"""The child's environment variable that holds the key; agents refer to it by name, so no file or argument does."""

NO_KEY = "none"
"""Stands where an agent insists on a key and the server asks for none."""

Dialect = Literal["json", "jsonc", "json5", "yaml", "toml"]

PROVIDER = "omlx"
"""Our name in every agent's list of providers."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the server describes it; windows and caps in tokens, `context_window` None where it does not say.

    The user may call it by its `alias` too.
    """

    name: str
    context_window: int | None
    max_output_tokens: int
    reasoning: bool = False
    vision: bool = False
    size_bytes: int | None = None
    loaded: bool = False
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where the agent is sent, and with which models. `url` is without `/v1`, such as `http://127.0.0.1:8000`;
    behind a proxy it may have a path."""

    url: str
    model: Model
    opus: Model
    sonnet: Model
    haiku: Model
    models: tuple[Model, ...]
    api_key: str = field(repr=False)

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def tiers(self) -> tuple[Model, ...]:
        """The models this launch may use, each once, the main one first."""
        return tuple(dict.fromkeys((self.model, self.opus, self.sonnet, self.haiku)))

    @property
    def context_window(self) -> int | None:
        """The window that holds for every tier, since agents know one number; None where the server does not say."""
        windows = [tier.context_window for tier in self.tiers if tier.context_window is not None]
        return min(windows, default=None)

    @property
    def max_output_tokens(self) -> int:
        return min(tier.max_output_tokens for tier in self.tiers)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that an integration may see of the machine.

    `read` gives a file's text, or None where there is none; `glob` the files below a folder that match, in order.
    """

    environ: Mapping[str, str]
    home: Path
    directory: Path
    run_directory: Path
    arguments: tuple[str, ...]
    read: Callable[[Path], str | None]
    glob: Callable[[Path, str], tuple[Path, ...]]
    platform: str = sys.platform

    def key(self, reference: str) -> str:
        """What an agent's own file holds for a key: the reference where the user has one, else a word that is none."""
        return reference if self.environ.get(KEY_VARIABLE) else NO_KEY

    def folder(self, variable: str, default: str) -> Path:
        """The agent's own folder: what `variable` says, else `default` below the home."""
        return Path(self.environ.get(variable) or self.home / default)


class Refusal(Exception):
    """The agent cannot be wired as the user asked; `str` is the fact and the remedy."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A private file of this launch, below the omlx home; it never holds the server's key."""

    path: Path
    text: str

    @classmethod
    def of(cls, directory: Path, name: str, text: str) -> RunFile:
        """A file in a folder named for its contents: launches at once never share one with different contents."""
        return cls(directory / hashlib.sha256(text.encode()).hexdigest()[:12] / name, text)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How one launch is wired.

    `arguments` are the agent's whole command line, the user's own among them; `warnings` are what the user should know.
    """

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[RunFile, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """What an agent takes at `path` of its file: a list or a mapping of mappings, each with `needs`.

    Of alternative names, as in `base_url|url`, one is enough.
    """

    path: tuple[str, ...]
    kind: type[list[object]] | type[dict[str, object]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A step of a path: to the list's mapping whose `key` is `value`, which is added where there is none."""

    key: str
    value: str


Steps = tuple[str | Item, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """Values for one of the agent's own files, by path, for wiring that lasts; a mapping replaces the one there.

    What of the user's does not have one of the `shapes` is named and left. The `stamps` among the values are dates and
    the like that the agent itself writes anew.
    """

    path: Path
    dialect: Dialect
    values: tuple[tuple[Steps, object], ...]
    shapes: tuple[Shape, ...] = ()
    stamps: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls, path: Path, dialect: Dialect, config: Mapping[str, object], whole: tuple[str, ...] | None = None
    ) -> Edit:
        """Every leaf of `config` as a value of its own, so that what stands beside it in the file stays.

        The mapping at `whole` is wholly ours and is one value.
        """
        return cls(path, dialect, tuple(_leaves((), config, whole)))


def _leaves(path: tuple[str, ...], value: object, whole: tuple[str, ...] | None) -> Iterator[tuple[Steps, object]]:
    if isinstance(value, Mapping) and value and path != whole:
        for key, below in value.items():
            yield from _leaves((*path, str(key)), below, whole)
    else:
        yield path, value


@dataclass(frozen=True, slots=True)
class Integration:
    """One agent.

    `unset` are variables of the user's shell that would send it, or a real key of theirs, elsewhere. `key_variables`
    get the key beside KEY_VARIABLE, where the agent reads no other name. `edits` wires it for good, in its own files,
    and `overrides` says, a sentence each with file and key, what of the user's own ranks above those; `wire` is None
    where it can only be wired for good, `edits` where it can only be wired for one run, and then `no_file` says why.
    What it is started with when the user says nothing are its `default_arguments`. `other_places` are below the home.
    `user_agents` are the first words of its requests' User-Agent, where these are not its name. `linux_install` is its
    line on Linux, where that is another one, and None where there is no such program. `minimum_node` is the oldest
    Node, as major and minor version, that its npm package runs on, by its `engines`.
    """

    name: str
    title: str
    executable: str
    install: str
    minimum_context: int
    summary: str
    wire: Callable[[Target, Surroundings], Wiring] | None = None
    unset: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    edits: Callable[[Target, Surroundings], tuple[Edit | RunFile, ...]] | None = None
    overrides: Callable[[Target, Surroundings], tuple[str, ...]] | None = None
    no_file: str = ""
    default_arguments: tuple[str, ...] = ()
    other_places: tuple[str, ...] = ()
    user_agents: tuple[str, ...] = ()
    linux_install: str | None = ""
    minimum_node: tuple[int, int] | None = None

    def install_line(self, platform: str) -> str | None:
        """What installs it on `sys.platform`, None where nothing does."""
        return self.install if platform != "linux" or self.linux_install == "" else self.linux_install
