"""What a grammar may cost, wherever it is compiled: in the API process, which checks it, and in the engine."""

from __future__ import annotations

from llguidance import LLParserLimits

MAX_MESSAGE = 300
"""Characters of the compiler's complaints that are passed on."""


def grammar_limits() -> LLParserLimits:
    """The fuel is about a tenth of a second of compiling and 10 ms a token; a lexer's states take 40 MB at most."""
    return LLParserLimits(
        max_items_in_row=1_000,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def complaint(error: str) -> str:
    """The compiler's words for a user's eyes: not those that advise to raise its own limits."""
    reason = error.split("<non-verbose/>")[0].strip()[:MAX_MESSAGE]
    if reason.startswith("NoExtension"):
        return "no text can satisfy it"
    if any(word in reason for word in _OF_LIMITS):
        return "it is too complex; ask for a simpler one"
    return reason


_OF_LIMITS = ("limits.", "too many", "too large", "fuel", "; max is ")
