"""What one token alone stands for, in bytes: a piece of a character has no text of its own."""

from __future__ import annotations

import re

from .tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_REPLACEMENT = "\ufffd"


class TokenBytes:
    """The bytes of a tokenizer's tokens, each looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known = {token_id: text.encode() for text, token_id in tokenizer.control_ids.items()}
        self._anchor = tokenizer.encode("a")
        self._alphabet = _byte_alphabet()

    def __getitem__(self, token_id: int) -> bytes:
        found = self._known.get(token_id)
        if found is None:
            found = self._known[token_id] = self._read(token_id)
        return found

    def _read(self, token_id: int) -> bytes:
        name = self._tokenizer.backend.id_to_token(token_id)
        if name is None:  # a place in the logits that no token has
            return b""
        if (byte := _BYTE.fullmatch(name)) is not None:
            return bytes([int(byte[1], 16)])
        # Behind another token, since some decoders drop the space that a first one begins with.
        before = self._tokenizer.decode(self._anchor, skip_control=False)
        text = self._tokenizer.decode([*self._anchor, token_id], skip_control=False).removeprefix(before)
        if _REPLACEMENT in text and all(character in self._alphabet for character in name):
            return bytes([self._alphabet[character] for character in name])
        return text.encode()


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes: themselves where printable, others from U+0100 on."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
