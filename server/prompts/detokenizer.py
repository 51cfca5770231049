"""Token ids into text, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers.decoders import DecodeStream

from .tokenizer import Tokenizer
from .tokenizer_faults import tokenizer_fault

_REPLACEMENT = "\ufffd"
_CONTEXT_TOKENS = 8


class Detokenizer:
    """The text of one answer, token by token; the pieces joined are the decoded whole.

    A character whose bytes are spread over tokens is held back until it is complete, and dropped where
    the answer ends inside it. Control tokens vanish, except those whose name is in `visible`: a parser
    reads them. `prompt_ids` are the prompt's last tokens; given them, a first token's leading space is
    kept for tokenizers that write it only between words.
    """

    def __init__(self, tokenizer: Tokenizer, visible: Iterable[str] = (), prompt_ids: Sequence[int] = ()) -> None:
        shown = tuple(visible)
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend
        self._hidden = {i for text, i in tokenizer.control_ids.items() if not any(text in name for name in shown)}
        self._pending: list[int] = []
        self._recent = list(prompt_ids[-_CONTEXT_TOKENS:])
        self._stream = DecodeStream(self._recent, False)

    def feed(self, token_ids: Iterable[int]) -> str:
        return "".join([self.step(token_id) for token_id in token_ids])

    def finish(self) -> str:
        """What was held back and is whole characters after all."""
        if not self._pending:
            return ""
        before = self._decode(self._recent)
        after = self._decode(self._recent + self._pending)
        self._pending.clear()
        return after[len(before) :].rstrip(_REPLACEMENT)

    def step(self, token_id: int) -> str:
        """What one token adds."""
        if token_id in self._hidden:
            return ""
        self._pending.append(token_id)
        try:
            text = self._stream.step(self._backend, token_id)
        except Exception:  # "Invalid prefix": the decoder changed text it had already given out
            text = self._restart()
        except BaseException as error:
            raise tokenizer_fault(error) from None
        if text is None:
            return ""
        self._recent += self._pending
        if len(self._recent) > 8 * _CONTEXT_TOKENS:  # now and then: a new list for every token costs
            del self._recent[:-_CONTEXT_TOKENS]
        self._pending.clear()
        return text

    def _restart(self) -> str:
        before = self._decode(self._recent)
        after = self._decode(self._recent + self._pending)
        self._stream = DecodeStream((self._recent + self._pending)[-_CONTEXT_TOKENS:], False)
        return after[len(before) :]

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_control=False)
