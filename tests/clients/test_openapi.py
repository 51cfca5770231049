"""The server does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx

from omlx.server.api.admin.openapi import add_admin
from omlx.server.api.openapi_document import document

from ..tiny_model import needs_embedded_model
from .drivers.driving import Server

_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,ignored_auth,negative_data_rejection"
)
_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "12"))
"""Of each kind for each operation; set more for a long run."""


def test_schemathesis_finds_no_server_error_and_no_violation(
    plain_server: Server, clients: Path, tmp_path: Path
) -> None:
    # without their own key, which it has not, the admin's routes are all 401
    _run_schemathesis(plain_server, clients, tmp_path, _EXAMPLES, ["--exclude-path-regex", "^/admin/"])


@needs_embedded_model
def test_schemathesis_finds_none_where_an_engine_computes(
    computing_server: Server, clients: Path, tmp_path: Path
) -> None:
    options = ["--include-path-regex", "^/v1/(chat/completions|completions|responses|messages)$", "--phases", "fuzzing"]
    _run_schemathesis(computing_server, clients, tmp_path, max(_EXAMPLES // 3, 1), options)
    metrics = httpx.get(f"{computing_server.url}/metrics", headers={"x-api-key": computing_server.key}).text
    assert re.search(r"^omlx:generation_tokens_total\{.*\} [1-9]", metrics, re.MULTILINE), "nothing was computed"


def _run_schemathesis(server: Server, clients: Path, folder: Path, num_examples: int, options: list[str]) -> None:
    command = [str(clients / "schemathesis"), "run", f"{server.url}/openapi.json", *options]
    command += ["--checks", _CHECKS, "--max-examples", str(num_examples), "--seed", "1", "--no-color"]
    command += ["--header", f"Authorization: Bearer {server.key}", "--request-timeout", "30"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)

    assert done.returncode == 0, done.stdout[-8000:]


def test_the_document_holds_every_route_of_the_page(checkout: Path) -> None:
    page = (checkout / "docs" / "http.md").read_text()
    listed = set(re.findall(r"^\| `(GET|POST|PUT|DELETE) (/\S*)`", page, re.MULTILINE))
    made = document(["m"], "1", False)
    add_admin(made)
    described = {(method.upper(), path) for path, methods in made["paths"].items() for method in methods}

    pages = {(method, path) for method, path in listed if path.startswith("/admin") and "/api/" not in path}
    assert listed - described - pages == {("GET", "/v1/responses")}, "only the answer to a WebSocket is not described"
    assert described <= listed
