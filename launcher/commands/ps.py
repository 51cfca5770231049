"""`omlx ps`: parse, call, print."""

from __future__ import annotations

import json

import click

from ..cli_options import json_option, this_machine, url_option


@click.command("ps", short_help="List the models in the server's memory.")
@url_option
@json_option
def command(url: str | None, as_json: bool) -> None:
    """List the models that the server has in memory, loads, or could not load; exit code 4 where it is down."""
    from ..probing import ask_status
    from ..running import running_models, running_text

    status = ask_status(this_machine(), url)
    models = running_models(status)
    if not as_json:
        click.echo(running_text(models, status))
        return
    listed = [
        {
            "name": model.name,
            "state": model.state,
            "reason": model.reason,
            "size_bytes": model.size_bytes,
            "seconds_since_last_token": model.pulse.seconds_since_decode,
        }
        for model in models
    ]
    health = status.health
    found = {"url": status.address.url, "running": health.num_running, "waiting": health.num_waiting, "models": listed}
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
