"""Acts out a plan: finds the agent's program, writes our run files, and becomes the agent."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ..integrations.spec import Integration
from .errors import AgentMissing, FileError
from .files import missing_folders, remove_empty_folders
from .plan import LaunchPlan, child_environment
from .state import write_private

_RUN_FILES_KEPT_SECONDS = 30 * 24 * 3600


def find_executable(integration: Integration, environ: Mapping[str, str], home: Path) -> str:
    """The program's path. Raises AgentMissing with the line that installs it."""
    found = _located(integration, environ, home)
    if found is not None:
        return found
    line = integration.install_line(sys.platform)
    if line is None:
        raise AgentMissing(f"{integration.title} is not installed, and there is none for this system")
    where = "there" if "/" in integration.executable else "on PATH"
    raise AgentMissing(
        f"{integration.title} is not installed: no `{integration.executable}` {where}. Install it with\n  {line}"
    )


def is_installed(integration: Integration, environ: Mapping[str, str], home: Path) -> bool:
    return _located(integration, environ, home) is not None


def write_run_files(plan: LaunchPlan) -> None:
    """Write the plan's private files, all or none. Raises FileError."""
    made = [(file.path, missing_folders(file.path)) for file in plan.files if not os.path.exists(file.path)]
    try:
        for file in plan.files:
            write_private(file.path, file.text)
    except FileError:
        for path, folders in made:
            with suppress(OSError):
                path.unlink()
            remove_empty_folders(folders)
        raise


def sweep_run_files(run_directory: Path) -> None:
    """Drop the files that no launch has used for a month."""
    with suppress(OSError):  # what another launch removed meanwhile, or does not let us see
        _sweep(run_directory, oldest=time.time() - _RUN_FILES_KEPT_SECONDS)


def become(executable: str, plan: LaunchPlan, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by the agent: its exit code and its signals are then its own.

    Raises `AgentMissing` when what is installed is no program.
    """
    try:
        os.execve(executable, [plan.executable, *plan.arguments], child_environment(plan, environ))
    except OSError as error:
        raise AgentMissing(f"{executable} cannot be run ({error.strerror}); install the agent again") from None


def _located(integration: Integration, environ: Mapping[str, str], home: Path) -> str | None:
    found = shutil.which(integration.executable, path=environ.get("PATH"))
    places = (str(home / place) for place in integration.other_places if os.access(home / place, os.X_OK))
    return found or next(places, None)


def _sweep(run_directory: Path, oldest: float) -> None:
    for directory in run_directory.iterdir():
        if directory.is_dir() and max((path.stat().st_mtime for path in directory.iterdir()), default=0.0) < oldest:
            shutil.rmtree(directory, ignore_errors=True)
