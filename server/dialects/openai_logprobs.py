"""Log probabilities in the shapes of the two OpenAI endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from ..events import TokenScore
from .wire import Object


def chat_logprobs(tokens: Sequence[TokenScore]) -> Object:
    """`choices[].logprobs` of a chat completion."""
    return {"content": token_logprobs(tokens), "refusal": None}


def token_logprobs(tokens: Sequence[TokenScore]) -> list[Object]:
    """The tokens one by one, as chat completions and responses list them."""
    return [_chat_token(token) | {"top_logprobs": [_chat_token(top) for top in token.top]} for token in tokens]


class TokensOfText:
    """Tells which tokens of an answer made a piece of its text; those of marks and calls between belong to none.

    A token that two pieces share is told with the first of them.
    """

    def __init__(self) -> None:
        self._tokens: list[TokenScore] = []
        self._num_used = 0
        """Bytes of the first token that a piece has had already."""

    def add(self, tokens: Sequence[TokenScore]) -> None:
        self._tokens += tokens

    def take(self, text: str) -> list[TokenScore]:
        """The tokens of the next piece; none where the bytes are no text."""
        if not self._tokens:
            return []
        piece = text.encode()
        start = b"".join(token.data for token in self._tokens).find(piece, self._num_used)
        if not piece or start < 0:
            return []
        stop, begin, taken = start + len(piece), 0, list[TokenScore]()
        for index, token in enumerate(self._tokens):
            end = begin + len(token.data)
            if begin >= stop:
                break
            if end > start and not (index == 0 and self._num_used):
                taken.append(token)
            if end > stop:
                self._tokens, self._num_used = self._tokens[index:], stop - begin
                return taken
            begin = end
        count = next((i for i, end in enumerate(_ends(self._tokens), 1) if end >= stop), 0)
        self._tokens, self._num_used = self._tokens[count:], 0
        return taken


def _ends(tokens: Sequence[TokenScore]) -> Iterator[int]:
    return accumulate(len(token.data) for token in tokens)


def _chat_token(token: TokenScore) -> Object:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.data)}


def text_logprobs(tokens: Sequence[TokenScore], offset: int) -> Object:
    """`choices[].logprobs` of a plain completion, for tokens whose text begins at `offset` characters."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [_name(token) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_best(token) for token in tokens],
        "text_offset": offsets,
    }


def _best(token: TokenScore) -> Object | None:
    """None where there is nothing to choose from; the token itself is always among them."""
    if token.logprob is None:
        return None
    best: Object = {}
    for top in (*token.top, token):
        best.setdefault(_name(top), top.logprob)
    return best


def _name(token: TokenScore) -> str:
    """The token's text, or its bytes where they are no text: names must differ where tokens do."""
    try:
        return token.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)
