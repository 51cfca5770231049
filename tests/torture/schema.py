"""What the OpenAPI document allows, and what it does not, a hundred times an operation; see `tests/clients`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from omlx.launcher.keys import new_admin_key

from ..clients.running import CLIENTS, running
from ..clients.schema_runs import ADMIN, PUBLIC, num_generated, run_schemathesis


@dataclass(frozen=True)
class Ran:
    what: str
    num_requests: int
    has_failed: bool
    notes: str = ""


def schema(num_examples: int) -> Iterator[Ran]:
    """Over the public routes and, with its key, over the admin's."""
    for what, options, with_key in (("the public routes", PUBLIC, False), ("the admin's routes", ADMIN, True)):
        if not CLIENTS.is_dir():
            yield Ran(what, 0, has_failed=True, notes="the other clients are not installed (make clients)")
            continue
        with tempfile.TemporaryDirectory() as name, running(Path(name)) as server:
            key = new_admin_key(Path(name), datetime.now(UTC)) if with_key else ""
            status, report = run_schemathesis(server, Path(name), num_examples, options, key, timeout=4 * 3600)
        if status:
            print(report, file=sys.stderr)
        yield Ran(what, num_generated(report), status != 0, f"{num_examples} of each kind for each operation")
