"""docs/http.md lists the routes there are, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from litestar import Litestar

from .serving import serving

_ROW = re.compile(r"^\| `(GET|POST|PUT|DELETE) (/\S*)`", re.MULTILINE)
_OTHER_SPELLINGS = ("/v1/v1/", "/anthropic/")


async def test_the_page_and_the_routes_agree(tmp_path: Path, checkout: Path):
    async with serving(tmp_path, "Hi.") as server:
        app = server.app
    assert isinstance(app, Litestar)
    served = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method not in ("HEAD", "OPTIONS") and not route.path.startswith(_OTHER_SPELLINGS)
    }
    assert set(_ROW.findall((checkout / "docs" / "http.md").read_text())) == served
