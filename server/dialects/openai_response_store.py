"""What a client may come back to: responses (by `previous_response_id`, `GET`, an item's id) and a session's tools."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from .wire import Object


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`items` is the whole conversation up to and with this response; `body` the response as it was answered.

    `num_bytes` is what the request and the response came to on the wire.
    """

    response_id: str
    items: tuple[Object, ...]
    body: bytes
    num_bytes: int
    item_ids: tuple[str, ...]
    """Of the items that this response itself put out."""
    owner: str = ""
    """The namespace of the key that it was asked with: nobody else finds it."""


class ResponseStore:
    """Keeps the last `max_responses`, in memory, within `max_bytes`; the oldest go first."""

    def __init__(self, max_responses: int = 1000, max_bytes: int = 64 * 2**20) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._items: dict[tuple[str, str], Object] = {}

    def get(self, response_id: str, owner: str = "") -> StoredResponse | None:
        stored = self._responses.get(response_id)
        return stored if stored is not None and stored.owner == owner else None

    def item(self, item_id: str, owner: str = "") -> Object | None:
        """An item that a stored response put out."""
        return self._items.get((owner, item_id))

    def put(self, stored: StoredResponse) -> None:
        self._forget(stored.response_id)
        self._responses[stored.response_id] = stored
        self._num_bytes += stored.num_bytes
        own = stored.items[len(stored.items) - len(stored.item_ids) :]
        self._items.update(zip(self._item_keys(stored), own, strict=True))
        while len(self._responses) > self._max_responses or self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._responses)))

    def delete(self, response_id: str, owner: str = "") -> bool:
        """Forget a response; whether there was one."""
        if self.get(response_id, owner) is None:
            return False
        self._forget(response_id)
        return True

    def _forget(self, response_id: str) -> None:
        stored = self._responses.pop(response_id, None)
        if stored is not None:
            self._num_bytes -= stored.num_bytes
            for key in self._item_keys(stored):
                self._items.pop(key, None)

    def _item_keys(self, stored: StoredResponse) -> list[tuple[str, str]]:
        return [(stored.owner, item_id) for item_id in stored.item_ids]


class SessionTools:
    """The tools of each of the last `max_sessions` sessions (`prompt_cache_key`), as many as `max_bytes` hold.

    Codex asks for a summary of a conversation without the conversation's tools, which stand before it in most
    prompts: nothing cached would be of use.
    """

    def __init__(self, max_sessions: int = 256, max_bytes: int = 64 * 2**20) -> None:
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._sessions: OrderedDict[str, tuple[list[Object], int, bytes, int]] = OrderedDict()

    def remember(self, session: str, tools: list[Object], items: list[Object]) -> None:
        if session in self._sessions:
            self._num_bytes -= self._sessions.pop(session)[-1]
        size = len(session) + len(msgspec.json.encode(tools))
        self._sessions[session] = (tools, len(items), _digest(items), size)
        self._num_bytes += size
        while len(self._sessions) > self._max_sessions or self._num_bytes > self._max_bytes:
            self._num_bytes -= self._sessions.popitem(last=False)[1][-1]

    def recall(self, session: str, items: list[Object]) -> list[Object]:
        """The session's tools where `items` go on with the conversation that had them, else none."""
        tools, count, digest, _ = self._sessions.get(session, ([], 0, b"", 0))
        return tools if tools and len(items) > count and _digest(items[:count]) == digest else []


def _digest(items: list[Object]) -> bytes:
    return hashlib.sha256(msgspec.json.encode(items)).digest()
