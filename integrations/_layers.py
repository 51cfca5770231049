"""What of the user's own, in files and in the shell, an agent would still go by."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ._options import lenient_object
from .spec import Surroundings

_MODEL = re.compile(r"""---\r?\n(?:(?!---).*\n)*?model:[ \t]*["']?([^\s"'#]+)""")

_VALUE = r"[ \t]*[:=][ \t]*(?:[^\s#]|(?:#.*)?\r?\n[ \t]+[^\s#])"
"""On the same line, or a block below."""


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


def set_in_lines(surroundings: Surroundings, paths: Iterable[Path], names: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each of these names at the beginning of a line: in a `.env`, or at the top of a YAML file."""
    names = tuple(names)
    pattern = re.compile(rf"^(?:export[ \t]+)?({'|'.join(map(re.escape, names))}){_VALUE}", re.MULTILINE)
    found = ((path, pattern.findall(surroundings.read(path) or "")) for path in dict.fromkeys(paths))
    return tuple(_overriding(path, name) for path, there in found for name in names if name in there)


def set_in_files(
    surroundings: Surroundings,
    paths: Iterable[Path],
    keys: Iterable[str],
    parse: Callable[[str | None], Mapping[str, object]] = lenient_object,
) -> tuple[str, ...]:
    """A sentence for each of these dotted keys in each of these files."""
    keys = tuple(keys)
    found = ((path, parse(surroundings.read(path))) for path in paths)
    return tuple(_overriding(path, key) for path, config in found for key in keys if has(config, key.split(".")))


def toml_object(text: str | None) -> dict[str, object]:
    """The settings in a TOML file, empty where it does not parse. For looking only."""
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return {}


def has(config: object, steps: Sequence[str]) -> bool:
    """Whether there is something at this path."""
    return not steps or (isinstance(config, Mapping) and steps[0] in config and has(config[steps[0]], steps[1:]))


def _overriding(path: Path, name: str) -> str:
    return f"{path} sets {name}, which overrides omlx's"
