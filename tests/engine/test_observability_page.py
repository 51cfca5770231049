"""docs/observability.md lists the log's fields and the metrics there are, and no others."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from omlx.server.engine.ledger import RequestLedger, line
from omlx.server.metrics import Metrics

_ROW = re.compile(r"^\| `([a-z_:0-9]+)` \|", re.MULTILINE)


def test_the_page_lists_every_field_and_metric(checkout: Path):
    metrics = Metrics(dict)
    ledger = RequestLedger(metrics)
    ledger.open("req_1", "claude", "m")
    fields = {pair.partition("=")[0] for pair in shlex.split(line(*ledger.live()))}
    names = {
        f"{name}_total" if kind == "counter" and not name.endswith("_total") else name
        for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", metrics.render().decode(), re.MULTILINE)
        if not name.endswith("_created")
    }
    assert set(_ROW.findall((checkout / "docs" / "observability.md").read_text())) == fields | names
