"""Schemathesis on a server: sends what its OpenAPI document allows, and what not, and compares what comes back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx

from .drivers.driving import MODEL, Server
from .running import CLIENTS

_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
PUBLIC = ("--exclude-path-regex", "^/admin/")
"""Without their own key, which the run has not, the admin's routes are all 401."""
LEFT_OUT = {
    "POST /admin/api/login": "random keys are wrong ones, after a few of which the right one has to wait, too",
    "POST /admin/api/downloads": "it downloads",
    "DELETE /admin/api/models/{model_id}": "it deletes the model's folder",
    "DELETE /admin/api/session": "it logs out",
    "DELETE /admin/api/sessions": "it logs everybody out",
}
ADMIN = (
    *("--include-path-regex", "^/admin/"),
    *(word for operation in LEFT_OUT for word in ("--exclude-name", operation)),
)
_COUNTED = re.compile(r"(\d+) generated")


def run_schemathesis(
    server: Server, folder: Path, num_examples: int, options: Sequence[str], admin_key: str = "", timeout: float = 1800
) -> tuple[int, str]:
    """Its exit status and its report. `num_examples` is of each kind for each operation. With the admin key, paths name
    the model that there is, and no wrong keys are sent: after a few of them the right one has to wait, too."""
    document, config = folder / "openapi.json", folder / "schemathesis.toml"
    document.write_bytes(httpx.get(f"{server.url}/openapi.json", headers={"x-api-key": server.key}).content)
    config.write_text(f'[parameters]\n"path.model_id" = "{MODEL}"\n' if admin_key else "")
    checks = _CHECKS if admin_key else (*_CHECKS, "ignored_auth")
    command = [str(CLIENTS / "schemathesis"), "--config-file", str(config), "run", str(document), *options]
    command += ["--url", server.url, "--checks", ",".join(checks), "--max-examples", str(num_examples)]
    command += ["--header", f"Authorization: Bearer {admin_key or server.key}", "--request-timeout", "30"]
    command += ["--seed", "1", "--no-color"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout


def num_generated(report: str) -> int:
    """The requests that a report tells of."""
    return sum(map(int, _COUNTED.findall(report)))
