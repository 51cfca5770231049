"""Installs the JSON5 parser that judges random edits into .cache/torture: `python -m tests.torture.install`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..e2e.install_agents import AgentsUnavailable, find_node, install_npm_package

PINS = Path(__file__).parent / "json5"
CACHE = Path(__file__).parents[2] / ".cache" / "torture"


def is_installed() -> bool:
    done = CACHE / "installed.json"
    return done.is_file() and done.read_text() == (PINS / "package-lock.json").read_text()


def main() -> None:
    try:
        install_npm_package(PINS, CACHE, find_node())
    except AgentsUnavailable as error:
        print(f"npm's json5 judges nothing: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
