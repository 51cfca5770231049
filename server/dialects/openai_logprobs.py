"""Log probabilities in the shapes of the two OpenAI endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import TokenScore
from .wire import Object


def chat_logprobs(tokens: Sequence[TokenScore]) -> Object:
    """`choices[].logprobs` of a chat completion."""
    content = [_chat_token(token) | {"top_logprobs": [_chat_token(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


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
