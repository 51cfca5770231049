"""A server with an admin key, and a client that holds it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from omlx.server.state_file import ServerState

from ..serving import Serving, serving

ADMIN_KEY = "sk-omlx-the-admins-own"
INFERENCE_KEY = "sk-omlx-an-agents"


def write_keys(home: Path, *keys: tuple[str, str, str]) -> None:
    """Keys as (name, scope, key)."""
    entries = [
        {
            "name": name,
            "scope": scope,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "last4": key[-4:],
            "created": "2026-11-01T10:00:00Z",
            "expires": None,
            "pid": None,
        }
        for name, scope, key in keys
    ]
    new = home / "keys.new"
    new.write_text(json.dumps({"keys": entries}))
    new.replace(home / "keys.json")


@dataclass(frozen=True, slots=True)
class Admin:
    server: Serving
    http: httpx.AsyncClient

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.http.get(f"/admin/api/{path}", params=query)).raise_for_status().json()

    async def put(self, path: str, body: Any = None) -> httpx.Response:
        return await self.http.put(f"/admin/api/{path}", json=body)

    async def delete(self, path: str) -> httpx.Response:
        return await self.http.delete(f"/admin/api/{path}")

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.http.post(f"/admin/api/{path}", json=body)


@asynccontextmanager
async def admin_serving(folder: Path, *answers: str, **options: Any) -> AsyncIterator[Admin]:
    """As `serving`; without a key for agents, so that they need none."""
    write_keys(folder, ("admin", "admin", ADMIN_KEY))
    async with serving(folder, *(answers or ("Hi.",)), **options) as server:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        base_url = str(server.client.base_url)
        async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=120) as http:
            yield Admin(server, http)


async def log_in(admin: Admin) -> httpx.AsyncClient:
    """A browser's client: no key, and the cookie of a session."""
    client = admin.server.client
    (await client.post("/admin/api/login", json={"key": ADMIN_KEY})).raise_for_status()
    return client


def state_of(admin: Admin) -> ServerState:
    """What a state file says of the server, for commands that look for it there."""
    url = str(admin.http.base_url).rstrip("/")
    port = urlsplit(url).port
    assert port is not None
    return ServerState(os.getpid(), "127.0.0.1", port, url, "an-instance")
