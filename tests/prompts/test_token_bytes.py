"""The bytes of tokens joined are the text they were made of, whatever the tokenizer."""

from __future__ import annotations

import tokenizers
from tokenizers import decoders
from tokenizers.models import BPE

from omlx.server.prompts.token_bytes import TokenBytes
from omlx.server.prompts.tokenizer import Tokenizer

from ..text_model import byte_tokenizer

TEXT = "Grüße, 世界 🙂\n"


def test_a_byte_level_tokenizers_tokens_are_bytes():
    tokenizer = Tokenizer(byte_tokenizer())
    known = TokenBytes(tokenizer)
    token_ids = tokenizer.encode(TEXT + "<|im_end|>")

    assert b"".join(known[token_id] for token_id in token_ids) == TEXT.encode() + b"<|im_end|>"
    assert known[tokenizer.encode("ü")[0]] == "ü".encode()[:1]


def test_words_keep_their_space_and_bytes_that_have_no_token_are_told_as_bytes():
    vocabulary = {"<unk>": 0, "a": 1, "▁b": 2, "<0xE4>": 3}
    backend = tokenizers.Tokenizer(BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    known = TokenBytes(Tokenizer(backend))

    assert (known[1], known[2], known[3], known[99]) == (b"a", b" b", b"\xe4", b"")
