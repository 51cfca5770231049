"""The JSON schema of settings.json, made from the types that read it."""

from __future__ import annotations

from typing import Any

import msgspec

from .values import Settings


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Unknown names are allowed: files of newer versions hold some."""
    (reference,), definitions = msgspec.json.schema_components([Settings], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "omlx settings",
        **reference,
        "$defs": definitions,
    }
