"""What of the user's own, in files and in the shell, an agent would still go by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .spec import Surroundings

_MODEL = re.compile(r"""---\r?\n(?:(?!---).*\n)*?model:[ \t]*["']?([^\s"'#]+)""")


def foreign_agents(
    surroundings: Surroundings, folders: Iterable[Path], patterns: Iterable[str], is_ours: Callable[[str], bool]
) -> tuple[str, ...]:
    """A sentence for each Markdown file in these folders whose front matter names a model that isn't one of ours."""
    found: list[str] = []
    patterns = tuple(patterns)
    for path in (path for folder in folders for pattern in patterns for path in surroundings.glob(folder, pattern)):
        model = _MODEL.match(surroundings.read(path) or "")
        if model is not None and not is_ours(model[1]):
            found.append(f"{path} sets model to {model[1]}, so that agent goes there and not to omlx")
    return tuple(dict.fromkeys(found))


def up_to_home(surroundings: Surroundings) -> Iterator[Path]:
    """The project's folders: this one and those above it, short of the home."""
    for folder in (surroundings.directory, *surroundings.directory.parents):
        if folder in (surroundings.home, *surroundings.home.parents):
            return
        yield folder


def set_in_shell(surroundings: Surroundings, names: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each of these variables that the shell sets, for wiring that lasts and cannot unset it."""
    named = (name for name in names if surroundings.environ.get(name))
    return tuple(f"this shell sets {name}, which overrides omlx's; unset it where the agent starts" for name in named)
