"""Installs what drives the browser into .cache/browser: `python -m tests.browser.install`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ..e2e.install_agents import AgentsUnavailable, find_node, install_npm_package

PINS = Path(__file__).parent
CACHE = Path(__file__).parents[2] / ".cache" / "browser"


def missing() -> str:
    """What is not there yet, and how to get it; "" where everything is."""
    lock = (PINS / "package-lock.json").read_text()
    done = CACHE / "installed.json"
    if not done.is_file() or done.read_text() != lock:
        return "playwright-core is not installed (make browser)"
    return "" if browser() else "there is no Chromium on PATH (Debian: apt install chromium)"


def browser() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def main() -> None:
    try:
        install_npm_package(PINS, CACHE, find_node())
    except AgentsUnavailable as error:
        print(f"the browser tests are left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
