"""`omlx bench`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..cli_options import json_option, this_machine, url_option

if TYPE_CHECKING:
    from ..benchmark import Row

_LONGEST = click.IntRange(0, 1_000_000)


@click.command("bench", short_help="Measure how fast a server answers.")
@url_option
@click.option("--model", help="The model to measure.  [default: the only one]")
@click.option("--compare", metavar="URL", help="Measure this endpoint too, of whatever make, and show both.")
@click.option("--concurrency", multiple=True, type=click.IntRange(1, 256), help="Streams at once.  [default: 1 4 8]")
@click.option(
    "--max-context", type=_LONGEST, default=100_000, show_default=True, help="Where the ramp of prompts ends."
)
@json_option
def command(
    url: str | None,
    model: str | None,
    compare: str | None,
    concurrency: tuple[int, ...],
    max_context: int,
    as_json: bool,
) -> None:
    """Measure answers of one and of several streams, then prompts of 5,000 to 100,000 tokens that no cache holds.

    Prompts that the model's window does not hold are left out. Exit code 4 where an endpoint does not answer.
    """
    import json
    from dataclasses import asdict

    from ..benchmark import RAMP
    from ..probing import measure_server
    from ..terminal import Progress

    lengths = tuple(length for length in RAMP if length <= max_context)
    measured: dict[str, tuple[Row, ...]] = {}
    with Progress() as report:
        for each in (url, compare) if compare else (url,):
            address, rows = measure_server(this_machine(), each, model, concurrency or (1, 4, 8), lengths, report)
            measured[address] = rows
    if as_json:
        click.echo(json.dumps({name: [asdict(row) for row in rows] for name, rows in measured.items()}, indent=2))
        return
    for name, rows in measured.items():
        click.echo(f"{name}\n{_table(rows)}\n")


def _table(rows: tuple[Row, ...]) -> str:
    from ..terminal import columns

    def figure(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    shown = [
        (
            f"{row.amount} streams" if row.kind == "throughput" else f"{row.amount:,} tokens",
            figure(row.first_token_seconds, 3),
            figure(row.prefill_rate),
            figure(row.decode_rate),
            figure(row.total_rate),
            row.error,
        )
        for row in rows
    ]
    return columns([("", "TTFT s", "PREFILL TOK/S", "DECODE TOK/S", "ALL TOK/S", ""), *shown])
