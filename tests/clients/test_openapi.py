"""The server does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from omlx.launcher.keys import new_admin_key
from omlx.server.api.admin.openapi import add_admin
from omlx.server.api.openapi_document import document

from ..tiny_model import needs_embedded_model
from .drivers.driving import Server
from .schema_runs import ADMIN, PUBLIC, run_schemathesis

_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "12"))
"""Of each kind for each operation; set more for a long run."""
_COMPUTING = "^/v1/(chat/completions|completions|responses|messages)$"


@pytest.mark.usefixtures("clients")
def test_schemathesis_finds_no_server_error_and_no_violation(plain_server: Server, tmp_path: Path) -> None:
    status, report = run_schemathesis(plain_server, tmp_path, _EXAMPLES, PUBLIC)
    assert status == 0, report[-8000:]


@pytest.mark.usefixtures("clients")
def test_schemathesis_finds_none_on_the_routes_of_the_admin(plain_server: Server, tmp_path: Path) -> None:
    key = new_admin_key(tmp_path, datetime.now(UTC))
    status, report = run_schemathesis(plain_server, tmp_path, max(_EXAMPLES // 6, 1), ADMIN, key)
    assert status == 0, report[-8000:]


@pytest.mark.usefixtures("clients")
@needs_embedded_model
def test_schemathesis_finds_none_where_an_engine_computes(computing_server: Server, tmp_path: Path) -> None:
    options = ["--include-path-regex", _COMPUTING, "--phases", "fuzzing"]
    status, report = run_schemathesis(computing_server, tmp_path, max(_EXAMPLES // 3, 1), options)
    assert status == 0, report[-8000:]
    metrics = httpx.get(f"{computing_server.url}/metrics", headers={"x-api-key": computing_server.key}).text
    assert re.search(r"^omlx:generation_tokens_total\{.*\} [1-9]", metrics, re.MULTILINE), "nothing was computed"


def test_the_document_holds_every_route_of_the_page(checkout: Path) -> None:
    page = (checkout / "docs" / "http.md").read_text()
    listed = set(re.findall(r"^\| `(GET|POST|PUT|DELETE) (/\S*)`", page, re.MULTILINE))
    made = document(["m"], "1", False)
    add_admin(made)
    described = {(method.upper(), path) for path, methods in made["paths"].items() for method in methods}

    pages = {(method, path) for method, path in listed if path.startswith("/admin") and "/api/" not in path}
    assert listed - described - pages == {("GET", "/v1/responses")}, "only the answer to a WebSocket is not described"
    assert described <= listed
