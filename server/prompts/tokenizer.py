"""The tokenizer of a model folder, as thin as it can be over the `tokenizers` package.

Text that clients send never becomes a control token: `defuse` puts a private mark inside every control
token's name found in it, `encode` cuts the text at those marks and drops them, so that the name is
encoded as plain characters. Only the chat template's own text yields control tokens.
"""

from __future__ import annotations

import re
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import tokenizers

from ..errors import ContextOverflow, CorruptModel
from .tokenizer_faults import tokenizer_fault

MARK = "\ue0f7"
"""A private-use character; taken out of whatever clients send, so that it always means a cut."""

_CACHED_CHARACTERS = 4_000_000
_STRETCH_CHARACTERS = 200_000
"""As many are encoded at once: the library takes about 200 bytes for each, and ends the process when it gets none."""
_OVERLAP_CHARACTERS = 2_000
_WORTH_COUNTING = 1_000_000
"""Characters. A rest of so many that is too long anyway is not encoded just to tell how much too long."""


_Tokens: TypeAlias = "tuple[array[int], array[int]]"
"""Ids, and the character positions where they start."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`token_ids` of a text, and for each the character position in the text where it starts."""

    token_ids: list[int]
    starts: list[int]


class Tokenizer:
    """Encodes and decodes text. Safe to share between threads that only encode and decode."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self.backend = backend
        backend.no_truncation()
        backend.no_padding()
        added = backend.get_added_tokens_decoder()
        self.control_ids = {token.content: token_id for token_id, token in added.items() if _is_control(token)}
        self.control_id_set = frozenset(self.control_ids.values())
        self._defusable = _alternatives([text for text in self.control_ids if len(text) > 1])
        clean = [text for text, i in self.control_ids.items() if not (added[i].lstrip or added[i].rstrip)]
        self._cut_points = _alternatives(clean) if self._encodes_in_pieces(clean) else None
        self._pieces: OrderedDict[tuple[str, str], _Tokens] = OrderedDict()
        self._cached_characters = 0
        self._cache_lock = threading.Lock()

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read the folder's `tokenizer.json`. Raises `CorruptModel` when it is missing or does not parse."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CorruptModel(f"{folder} has no tokenizer.json; convert its tokenizer or download it again")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except BaseException as error:  # the package raises bare Exception for every kind of bad file, or panics
            if not isinstance(tokenizer_fault(error), CorruptModel):
                raise
            raise CorruptModel(f"{path} is not a tokenizer this version reads: {error}") from error

    @property
    def encodes_in_pieces(self) -> bool:
        """Whether text may be cut anywhere without the pieces gaining a space of their own."""
        return self._cut_points is not None

    def defuse(self, text: str) -> str:
        """`text` with every control token's name in it made harmless to `encode`."""
        if MARK in text:
            text = text.replace(MARK, "")
        if self._defusable is None:
            return text
        return self._defusable.sub(lambda found: found[0][0] + MARK + found[0][1:], text)

    def encode(self, text: str, window: int | None = None, scope: str = "") -> list[int]:
        """Token ids of `text`; no BOS is added, control tokens named in it are parsed, marks are cuts.

        What was encoded before is remembered within its `scope`: the time would tell others of it. Raises
        `ContextOverflow` for a long text as soon as it is sure not to fit `window` tokens; the number it tells is an
        estimate then.
        """
        return self.encode_with_starts(text, window, scope).token_ids

    def encode_with_starts(self, text: str, window: int | None = None, scope: str = "") -> Encoded:
        token_ids: list[int] = []
        starts: list[int] = []
        position = 0
        for stretch in text.split(MARK):
            for piece in self._cut(stretch):
                for ids, offsets in self._encode_piece(piece, scope):
                    token_ids += ids
                    starts += [position + offset for offset in offsets]
                    if window is not None and len(token_ids) >= window and len(text) - starts[-1] > _WORTH_COUNTING:
                        raise ContextOverflow(len(token_ids) * len(text) // max(starts[-1], 1), window)
                position += len(piece)
            position += len(MARK)
        return Encoded(token_ids, starts)

    def decode(self, token_ids: list[int], skip_control: bool = True) -> str:
        if skip_control:
            token_ids = [token_id for token_id in token_ids if token_id not in self.control_id_set]
        try:
            return self.backend.decode(token_ids, skip_special_tokens=False)
        except BaseException as error:
            raise tokenizer_fault(error) from None

    def id_of(self, token: str) -> int | None:
        return self.backend.token_to_id(token)

    def _cut(self, text: str) -> list[str]:
        """Pieces that encode alone as they do together: the control tokens and what stands between."""
        if self._cut_points is None:
            return [text] if text else []
        pieces: list[str] = []
        position = 0
        for found in self._cut_points.finditer(text):
            if found.start() > position:
                pieces.append(text[position : found.start()])
            pieces.append(found[0])
            position = found.end()
        if position < len(text):
            pieces.append(text[position:])
        return pieces

    def _encode_piece(self, piece: str, scope: str) -> Iterator[_Tokens]:
        if len(piece) > _STRETCH_CHARACTERS:
            yield from self._encode_long(piece)
            return
        key = scope, piece
        with self._cache_lock:
            cached = self._pieces.get(key)
            if cached is not None:
                self._pieces.move_to_end(key)
        yield cached or self._remember(key, self._encode_now(piece))

    def _encode_long(self, piece: str) -> Iterator[_Tokens]:
        """Stretch by stretch, each beginning a little before the end of the last.

        They are joined in the middle of what they share, where both have the same tokens: so far back no encoder looks.
        Where they differ, in what is one endless word, the later stretch begins where it was cut.
        """
        begin, ids, starts = 0, array("I"), array("I")
        while begin + _STRETCH_CHARACTERS < len(piece):
            end = begin + _STRETCH_CHARACTERS
            if not starts:
                ids, starts = self._encode_now(piece[:end])
            cut = bisect_left(starts, end - _OVERLAP_CHARACTERS)
            begin = starts[cut] if cut < len(starts) and starts[cut] > begin else end
            next_ids, next_starts = self._encode_now(piece[begin : begin + _STRETCH_CHARACTERS], begin)
            low, high = begin + _OVERLAP_CHARACTERS // 4, end - _OVERLAP_CHARACTERS // 4
            old = slice(bisect_left(starts, low), bisect_left(starts, high))
            new = slice(bisect_left(next_starts, low), bisect_left(next_starts, high))
            if ids[old] and ids[old] == next_ids[new] and starts[old] == next_starts[new]:
                yield ids[: old.start], starts[: old.start]
                ids, starts = next_ids[new.start :], next_starts[new.start :]
            else:
                yield ids[:cut], starts[:cut]
                ids, starts = next_ids, next_starts
        yield ids, starts

    def _encode_now(self, text: str, position: int = 0) -> _Tokens:
        try:
            encoding = self.backend.encode(text, add_special_tokens=False)
        except BaseException as error:
            raise tokenizer_fault(error) from None
        return array("I", encoding.ids), array("I", [position + start for start, _ in encoding.offsets])

    def _remember(self, key: tuple[str, str], tokens: _Tokens) -> _Tokens:
        with self._cache_lock:
            if key not in self._pieces:
                self._pieces[key] = tokens
                self._cached_characters += len(key[1])
            while self._cached_characters > _CACHED_CHARACTERS:
                (_, old), _ = self._pieces.popitem(last=False)
                self._cached_characters -= len(old)
        return tokens

    def _encodes_in_pieces(self, control: list[str]) -> bool:
        """Try it: some tokenizers put a space before every text they see, and cutting would add more."""
        pieces = ["word", "\n", " two words", "three", "\n\n- a", "'s", "7"]
        if control:
            pieces[2:2] = [control[0]]
            whole = self.backend.encode("".join(pieces[:3]), add_special_tokens=False).ids
            parts = ["".join(pieces[:2]), *pieces[2:3]]
            if whole != [i for part in parts for i in self.backend.encode(part, add_special_tokens=False).ids]:
                return False
        return all(self.decode(self.backend.encode(p, add_special_tokens=False).ids, False) == p for p in pieces)


def _is_control(token: tokenizers.AddedToken) -> bool:
    """Special tokens, and those written like one: some models forget the flag on their role marks."""
    return token.special or token.content.startswith(("<|", "<\uff5c"))


def _alternatives(words: list[str]) -> re.Pattern[str] | None:
    """A pattern for any of `words`, the longest first. Shared beginnings are tried once, not once a word."""
    return re.compile(_trie_pattern(sorted(set(words)))) if words else None


def _trie_pattern(words: list[str]) -> str:
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(word[:1], []).append(word[1:])
    complete = groups.pop("", None) is not None
    branches = [re.escape(first) + _trie_pattern(rest) for first, rest in groups.items()]
    if not branches:
        return ""
    pattern = branches[0] if len(branches) == 1 and not complete else f"(?:{'|'.join(branches)})"
    return pattern + "?" if complete else pattern
