"""Where shells look for completions, and what stands there: click's script, which asks `omlx` when Tab is pressed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .errors import LauncherError
from .files import read, replace
from .machine import Machine

SHELLS = ("bash", "zsh", "fish")


def shell_of(environ: Mapping[str, str]) -> str:
    """The user's shell. Raises LauncherError where it is none of ours."""
    name = Path(environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise LauncherError(f"the shell {name or '(no SHELL is set)'} is not known; name one: {', '.join(SHELLS)}")
    return name


def script(shell: str) -> str:
    """The completion script."""
    import click
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    # The script asks `omlx` itself, so it needs no command of ours to be made.
    return found(click.Group("omlx"), {}, "omlx", "_OMLX_COMPLETE").source()


def install(shell: str, machine: Machine) -> Path:
    """Write the script, and for zsh the line that reads it; returns the script's path. Raises FileError."""
    environ, home = machine.environ, machine.user_home
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    path = {
        "bash": data / "bash-completion" / "completions" / "omlx",
        "fish": config / "fish" / "completions" / "omlx.fish",
        "zsh": machine.omlx_home.root / "completion.zsh",
    }[shell]
    replace(path, (script(shell).strip() + "\n").encode(), expected=read(path))
    if shell == "zsh":
        _read_it(Path(environ.get("ZDOTDIR") or home) / ".zshrc", path)
    return path


def _read_it(settings: Path, path: Path) -> None:
    line = f'[ -r "{path}" ] && source "{path}"'
    before = read(settings) or b""
    if line.encode() not in before.splitlines():
        rest = before if not before or before.endswith(b"\n") else before + b"\n"
        replace(settings, rest + line.encode() + b"\n", expected=read(settings))
