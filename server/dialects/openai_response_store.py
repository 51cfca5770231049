"""What a client may come back to: responses (by `previous_response_id`, `GET`, an item's id) and a session's tools."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.json import decode

from .sse import encode
from .wire import Object


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`before` is the conversation up to this response, a JSON list of items; `body` the response as it was answered.

    JSON is read anew where it is asked for: as values it takes twenty times the memory and more.
    """

    response_id: str
    before: bytes
    output: Mapping[str, bytes]
    """The items that this response itself put out, by their ids."""
    body: bytes
    owner: str = ""
    """The namespace of the key that it was asked with: nobody else finds it."""

    @property
    def num_bytes(self) -> int:
        return len(self.before) + sum(map(len, self.output.values())) + len(self.body)

    @property
    def items(self) -> list[Object]:
        """The whole conversation up to and with this response."""
        return decode(self.before, type=list[Object]) + [decode(item) for item in self.output.values()]


class ResponseStore:
    """Keeps the last `max_responses`, in memory, within `max_bytes`; the oldest go first."""

    def __init__(self, max_responses: int = 1000, max_bytes: int = 64 * 2**20) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()
        self._items: dict[tuple[str, str], bytes] = {}

    def get(self, response_id: str, owner: str = "") -> StoredResponse | None:
        stored = self._responses.get(response_id)
        return stored if stored is not None and stored.owner == owner else None

    def item(self, item_id: str, owner: str = "") -> Object | None:
        """An item that a stored response put out."""
        item = self._items.get((owner, item_id))
        return decode(item) if item is not None else None

    def put(self, stored: StoredResponse) -> None:
        self._forget(stored.response_id)
        self._responses[stored.response_id] = stored
        self._num_bytes += stored.num_bytes
        self._items.update(zip(self._item_keys(stored), stored.output.values(), strict=True))
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
        return [(stored.owner, item_id) for item_id in stored.output]


class SessionTools:
    """The tools of each of the last `max_sessions` sessions (`prompt_cache_key`), as many as `max_bytes` hold.

    Codex asks for a summary of a conversation without the conversation's tools, which stand before it in most
    prompts: nothing cached would be of use.
    """

    def __init__(self, max_sessions: int = 256, max_bytes: int = 64 * 2**20) -> None:
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._sessions: OrderedDict[str, tuple[bytes, int, bytes]] = OrderedDict()

    def remember(self, session: str, tools: list[Object], items: list[Object]) -> None:
        self._forget(session)
        encoded = encode(tools)
        self._sessions[session] = encoded, len(items), _digest(items)
        self._num_bytes += len(session) + len(encoded)
        while len(self._sessions) > self._max_sessions or self._num_bytes > self._max_bytes:
            self._forget(next(iter(self._sessions)))

    def recall(self, session: str, items: list[Object]) -> list[Object]:
        """The session's tools where `items` go on with the conversation that had them, else none."""
        tools, count, digest = self._sessions.get(session, (b"[]", 0, b""))
        goes_on = len(items) > count and _digest(items[:count]) == digest
        return decode(tools, type=list[Object]) if goes_on else []

    def _forget(self, session: str) -> None:
        if session in self._sessions:
            self._num_bytes -= len(session) + len(self._sessions.pop(session)[0])


def _digest(items: list[Object]) -> bytes:
    return hashlib.sha256(encode(items)).digest()
