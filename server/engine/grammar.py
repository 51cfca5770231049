"""Grammars in the engine process: which tokens a row may take next. llguidance decides, this keeps the books.

A grammar is llguidance's own text (`Submit.grammar`). The tokenizer's tables are built when the first one
comes, in about half a second; compiled grammars are kept, a few of them, and every row works on a copy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from ..errors import InvalidRequest
from .deep_stack import on_deep_stack
from .grammar_limits import MAX_MESSAGE, complaint, grammar_limits

_MAX_COMPILED = 32
_MAX_COMPILED_BYTES = 4 << 20
"""Of grammar text; what is compiled takes a few times as much."""


class RowGrammar:
    """Where one row stands in its grammar.

    `stop_token_ids` end the answer and are no part of the grammar: they are allowed exactly when it accepts.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int, stop_token_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._stops = [token_id for token_id in stop_token_ids if 0 <= token_id < vocabulary]
        self._draft: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow but the end."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def error(self) -> str:
        """Why the grammar cannot go on, "" while it can: it met a limit of `grammar_limits`."""
        return self._matcher.get_error()[:MAX_MESSAGE]

    def expect(self, draft: Sequence[int]) -> list[int]:
        """As much of a guess at the next tokens as the grammar would go along with."""
        count = self._matcher.try_consume_tokens(list(draft)) if draft else 0
        if count and self._matcher.is_stopped():
            count -= 1
            self._matcher.rollback(1)
        self._matcher.rollback(count)
        return list(draft[:count])

    def feed(self, draft: list[int]) -> None:
        """The next step is fed this guess too, all of which the grammar goes along with."""
        self._draft = draft

    def masks(self) -> Iterator[NDArray[np.bool_]]:
        """What is `allowed` at the next place and behind each token of the draft; to be read to the end."""
        yield self.allowed()
        for token_id in self._draft:
            self._matcher.consume_token(token_id)
            yield self.allowed()
        if self._draft:
            self._matcher.rollback(len(self._draft))

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, shape [vocabulary]. After an error it is any: the row is about to end."""
        allowed = np.ones(self._vocabulary, np.bool_)
        if self._matcher.is_error():
            return allowed
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        if self._matcher.is_error():
            return allowed
        allowed[:] = False
        width = min(self._vocabulary, len(bits))
        allowed[:width] = bits[:width]
        allowed[self._stops] = self._matcher.is_accepting()
        return allowed

    def consume(self, token_id: int) -> None:
        """The row took this token. A stop token ends the row and changes nothing here."""
        self._draft = []
        if token_id not in self._stops and not self.is_complete:
            self._matcher.consume_token(token_id)


class GrammarCompiler:
    """Compiles grammars for one model. `vocabulary` is the width of its logits.

    What is compiled is remembered within its `scope`: the time would tell others of it. All scopes share one bound, so
    that who fills it may learn that others had something compiled, and nothing of what.
    """

    def __init__(self, tokenizer_file: Path, vocabulary: int) -> None:
        self._tokenizer_file = tokenizer_file
        self._vocabulary = vocabulary
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()
        self._compiled_bytes = 0

    @property
    def num_compiled(self) -> int:
        return len(self._compiled)

    def row(self, grammar: str, stop_token_ids: Sequence[int], scope: str = "") -> RowGrammar:
        """A new row's place at the grammar's beginning.

        Raises `InvalidRequest` where the grammar does not compile, or llguidance does not read the tokenizer.
        """
        key = scope, grammar
        matcher = self._compiled.get(key)
        if matcher is None:
            matcher = self._compile(key, stop_token_ids)
        else:
            self._compiled.move_to_end(key)
        return RowGrammar(matcher.deep_copy(), self._vocabulary, stop_token_ids)

    def _compile(self, key: tuple[str, str], stop_token_ids: Sequence[int]) -> LLMatcher:
        _, grammar = key
        tokenizer = self._tokenizer or self._read_tokenizer(stop_token_ids)
        matcher = on_deep_stack(lambda: LLMatcher(tokenizer, grammar, log_level=0, limits=grammar_limits()))
        if matcher.is_error():
            raise InvalidRequest(f"the grammar cannot be compiled: {complaint(matcher.get_error())}")
        self._compiled[key] = matcher
        self._compiled_bytes += len(grammar)
        while len(self._compiled) > _MAX_COMPILED or self._compiled_bytes > _MAX_COMPILED_BYTES:
            (_, oldest), _ = self._compiled.popitem(last=False)
            self._compiled_bytes -= len(oldest)
        return matcher

    def _read_tokenizer(self, stop_token_ids: Sequence[int]) -> LLTokenizer:
        try:
            text = self._tokenizer_file.read_text(encoding="utf-8")
            self._tokenizer = LLTokenizer(text, eos_token=list(stop_token_ids) or None)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error)[:MAX_MESSAGE]
            raise InvalidRequest(f"this model's tokenizer cannot be held to a grammar: {reason}") from error
        return self._tokenizer
