"""Puts other words in the place of the agents' own: `python -m tests.replay.rewording` does so to all recordings.

What a replay proves is a matter of shape: which bytes of a request stand where they stood in the one before. So each
word of a prompt, a tool's description or a result becomes another one of the same length, the same for the same, drawn
from a tokenizer's vocabulary by a key that is thrown away. JSON, roles, names, ids, digits, marks, tags and all that
the model wrote stay.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..tiny_model import embedded_tokenizer
from .recording import FOLDER, Turn, read_recording, write_recording

_TEXTS = frozenset({"content", "text", "description", "definition", "output"})
"""Under these names stands what an agent tells the model."""
_OF_THE_MODEL = frozenset({"assistant", "reasoning", "function_call", "custom_tool_call"})
_KEPT = re.compile(
    r"</?[A-Za-z][\w:.-]*|x-anthropic-billing-header|CONTEXT CHECKPOINT COMPACTION|\\u[0-9a-fA-F]{4}|\\[nrt]"
)
_GRAMMAR_KEPT = re.compile(r"\b(?:start|LF|EOF)\b|%import common\.\w+|%\w+")
_WORD = re.compile(r"[A-Za-z]{2,}")


class Rewording:
    """One key and its words."""

    def __init__(self, vocabulary: Iterable[str], key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)
        self._words: dict[int, list[str]] = {}
        for word in sorted(set(vocabulary)):
            self._words.setdefault(len(word), []).append(word)

    def turn(self, turn: Turn) -> Turn:
        return replace(turn, body=self._value(turn.body, ""))

    def text(self, text: str, kept: re.Pattern[str] = _KEPT) -> str:
        """The text with other words; what `kept` finds in it stays."""
        parts: list[str] = []
        end = 0
        for found in kept.finditer(text):
            parts += [_WORD.sub(self._other, text[end : found.start()]), found.group()]
            end = found.end()
        return "".join([*parts, _WORD.sub(self._other, text[end:])])

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            if not _OF_THE_MODEL.isdisjoint({str(value.get("role")), str(value.get("type"))}):
                return value
            return {key: self._value(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, name) for item in value]
        if isinstance(value, str) and name in _TEXTS:
            return self.text(value, _GRAMMAR_KEPT if name == "definition" else _KEPT)
        return value

    def _other(self, found: re.Match[str]) -> str:
        word = found.group()
        other = self._drawn(word.lower())
        return "".join(new.upper() if old.isupper() else new for old, new in zip(word, other, strict=True))

    def _drawn(self, word: str) -> str:
        """Never the word itself. A long one is made of two."""
        words = [each for each in self._words.get(len(word), ()) if each != word]
        if len(words) < 2:
            half = len(word) // 2
            return self._drawn(word[:half]) + self._drawn(word[half:]) if half > 1 else word[::-1]
        digest = hashlib.blake2b(word.encode(), key=self._key).digest()
        return words[int.from_bytes(digest[:8]) % len(words)]


def common_words() -> list[str]:
    """Words that are one token each, so that prompts keep about their number of tokens."""
    tokenizer: Any = embedded_tokenizer(8192).tokenizer
    pieces: dict[str, int] = tokenizer["model"]["vocab"]
    return [piece[1:] for piece in pieces if re.fullmatch("Ġ[a-z]{2,}", piece)]


def main() -> None:
    rewording = Rewording(common_words())
    for path in sorted(FOLDER.glob("*.jsonl")):
        turns = read_recording(path)
        write_recording(path, [rewording.turn(turn) for turn in turns])
        print(f"{path.name}: {len(turns)} requests")


if __name__ == "__main__":
    main()
