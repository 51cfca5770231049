"""`omlx bench`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..cli_options import json_option, this_machine, url_option
from ..completing import complete_model

if TYPE_CHECKING:
    from ..benchmark import Row

_LONGEST = click.IntRange(0, 1_000_000)


@click.command("bench", short_help="Measure how fast a server answers.")
@url_option
@click.option(
    "--model", metavar="MODEL", shell_complete=complete_model, help="The model to measure.  [default: the only one]"
)
@click.option("--compare", metavar="URL", help="Measure this endpoint too, of whatever make, and show both.")
@click.option("--compare-model", metavar="MODEL", help="Its model to measure.  [default: --model, or its only one]")
@click.option("--concurrency", multiple=True, type=click.IntRange(1, 256), help="Streams at once.  [default: 1 4 8]")
@click.option(
    "--max-context", type=_LONGEST, default=100_000, show_default=True, help="Where the ramp of prompts ends."
)
@json_option
def command(
    url: str | None,
    model: str | None,
    compare: str | None,
    compare_model: str | None,
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
    from ..probing import Endpoint, measure_endpoints
    from ..terminal import Progress

    if compare_model and not compare:
        raise click.UsageError("--compare-model goes with --compare")
    lengths = tuple(length for length in RAMP if length <= max_context)
    endpoints = [Endpoint(url, model), *([Endpoint(compare, compare_model or model)] if compare else [])]
    with Progress() as report:
        measured = measure_endpoints(this_machine(), endpoints, concurrency or (1, 4, 8), lengths, report)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in measured], indent=2, ensure_ascii=False))
        return
    click.echo("\n\n".join(f"{one.model} at {one.url}\n{_table(one.rows)}" for one in measured))


def _table(rows: tuple[Row, ...]) -> str:
    from ..terminal import columns

    def figure(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    shown = [
        (
            f"{row.amount:,} {'stream' if row.kind == 'throughput' else 'token'}{'s' if row.amount > 1 else ''}",
            figure(row.first_token_seconds, 3),
            figure(row.prefill_rate),
            figure(row.decode_rate),
            figure(row.total_rate),
            row.error,
        )
        for row in rows
    ]
    return columns([("", "TTFT s", "PREFILL TOK/S", "DECODE TOK/S", "ALL TOK/S", ""), *shown])
