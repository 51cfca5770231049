"""What the tokenizers package raises where it cannot work with a model's file.

At some it panics, and a panic is no `Exception`: nobody would catch it, and a stream would break off without its error.
"""

from __future__ import annotations

from ..errors import CorruptModel

_PANIC = "PanicException"
"""The package has it from pyo3, and nothing to import it from."""


def tokenizer_fault(error: BaseException) -> BaseException:
    """What to raise in place of an error that came out of the package: `CorruptModel` without its words, which may
    quote a prompt. Ctrl-C and want of memory stay what they are."""
    is_theirs = isinstance(error, Exception) or type(error).__name__ == _PANIC
    if not is_theirs or isinstance(error, MemoryError | CorruptModel):
        return error
    return CorruptModel("the model's tokenizer fails at this text, for what its tokenizer.json holds")
