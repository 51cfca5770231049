"""What a person at a terminal sees while we work: a progress line, a question, aligned columns."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TextIO

from ..integrations.spec import Integration, Model
from .selection import size_text


class Progress:
    """One line on stderr that is overwritten, and gone at the end; silent where stderr is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, text: str) -> None:
        if self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
            self._stream.flush()
            self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._is_shown = False


def pick_model(models: Sequence[Model], fit: Callable[[Model], str] = lambda _: "") -> Model:
    """Ask on the terminal which model to use; `fit` says what speaks against one."""
    import click

    rows = [
        (
            f"  {number}",
            model.name,
            "-" if model.size_bytes is None else size_text(model.size_bytes),
            "-" if model.context_window is None else f"{model.context_window:,}",
            fit(model) or ("loaded" if model.loaded else ""),
        )
        for number, model in enumerate(models, 1)
    ]
    click.echo(columns([("   ", "MODEL", "SIZE", "WINDOW", ""), *rows]), err=True)
    best = next((number for number, model in enumerate(models, 1) if not fit(model)), 1)
    return models[_asked("Which model?", len(models), best) - 1]


def pick_agent(agents: Sequence[tuple[Integration, bool]]) -> str:
    """Ask on the terminal which agent to start: one that is installed, where there are any."""
    import click

    shown = [agent for agent, is_installed in agents if is_installed] or [agent for agent, _ in agents]
    rows = [(f"  {number}", agent.title, agent.name) for number, agent in enumerate(shown, 1)]
    click.echo(columns(rows), err=True)
    return shown[_asked("Which agent?", len(shown), 1) - 1].name


def _asked(question: str, highest: int, default: int) -> int:
    """A number from 1 to `highest`, asked for until it is one."""
    import click

    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and 1 <= int(text) <= highest:
            return int(text)
        raise click.UsageError(f"give a number from 1 to {highest}" if highest > 1 else "there is only 1")

    return click.prompt(question, value_proc=number, default=str(default), err=True)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text; the last column is as long as it likes."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)
