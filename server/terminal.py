"""What the server's commands show: a bar while something goes on, sizes, aligned columns, JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TextIO

import click

from .printable import printable

_BAR_CELLS = 24


class Bar:
    """A line on `stream` that is drawn anew and cleared at the end; where that is no terminal, a line each tenth."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_coloured = self._is_terminal and "NO_COLOR" not in environ and environ.get("TERM") != "dumb"
        self._tenths = 0
        self._is_drawn = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_drawn:
            self._write("\r\x1b[K")
            self._is_drawn = False

    def __call__(self, share: float, text: str) -> None:
        """`share` of the whole is done, from 0 to 1; `text` says more."""
        share = min(1.0, max(0.0, share))
        if self._is_terminal:
            filled = round(share * _BAR_CELLS)
            done, left = "━" * filled, "─" * (_BAR_CELLS - filled)
            width = shutil.get_terminal_size().columns - _BAR_CELLS - 8
            done = f"\x1b[32m{done}\x1b[0m" if self._is_coloured else done
            self._write(f"\r\x1b[K{done}{left} {share:>4.0%}  {text[: max(0, width)]}")
            self._is_drawn = True
        elif int(share * 10) > self._tenths:
            self._tenths = int(share * 10)
            self._write(f"{share:.0%}  {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def size_text(num_bytes: float) -> str:
    """Bytes as a person reads them: 1.2 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{int(num_bytes)} B"


def duration_text(seconds: float) -> str:
    """Seconds as a person reads them: 1:05, 2:00:10."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text, `printable`; the last column is as long as it likes."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
