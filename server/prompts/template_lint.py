"""A chat template tried out in a process of its own, which may neither compute long nor take much memory.

Templates come with the weights. The sandbox stops what reaches out of them; loops without an end, and texts doubled
until the memory is gone, only a limit of the system's can stop.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from math import ceil
from time import process_time

from ..errors import InvalidRequest, UnsupportedModel
from .chat_template import ChatTemplate
from .template_traits import probe

CPU_SECONDS = 2
MEMORY_BYTES = 512 << 20
_PATIENCE_S = 60
"""Of the clock, for a machine with other things to do."""
_REFUSED = 3
_REMEDY = "use a model with a template of its makers, or put a sound chat_template.jinja into its folder"


def lint(source: str, tokens: Mapping[str, str]) -> None:
    """Raises `UnsupportedModel` where the template renders small conversations not at all, or not within the limits."""
    _lint(source, tuple(sorted(tokens.items())))


@lru_cache(maxsize=64)
def _lint(source: str, tokens: tuple[tuple[str, str], ...]) -> None:
    task = json.dumps({"source": source, "tokens": dict(tokens)}).encode()
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", __name__], input=task, capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnsupportedModel(f"the chat template does not come to an end; {_REMEDY}") from error
    if child.returncode == _REFUSED:
        raise UnsupportedModel(child.stdout.decode(errors="replace"))
    if child.returncode == -signal.SIGXCPU:
        raise UnsupportedModel(
            f"the chat template computes for more than {CPU_SECONDS} s over a short conversation; {_REMEDY}"
        )
    if child.returncode != 0:
        raise UnsupportedModel(f"the chat template ends its process ({child.returncode}); {_REMEDY}")


def _limit(what: int, value: int) -> None:
    with suppress(ValueError, OSError):  # not every system knows every limit
        resource.setrlimit(what, (value, value + 1))


def _main() -> int:
    task = json.load(sys.stdin)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, ceil(process_time()) + CPU_SECONDS)  # what its start took is not the template's
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    try:
        probe(ChatTemplate(task["source"], task["tokens"]))
    except (InvalidRequest, UnsupportedModel) as error:
        print(error, end="")
        return _REFUSED
    except MemoryError:
        print(f"the chat template takes more memory than {MEMORY_BYTES >> 20} MB; {_REMEDY}", end="")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main())
