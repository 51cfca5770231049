"""A stack on which a client's grammar is compiled.

The compiler recurses as deep as rules and schemas refer to one another, and where the stack ends, the process does.
What a request may hold (`constraints`) comes to half of this one at most; its memory is taken on the way down, and is
given back with the thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ..errors import Overloaded

_STACK_BYTES = 256 << 20
_one_at_a_time = threading.Lock()
"""The size is the process's, for the next thread; and many such stacks together would be much memory."""

T = TypeVar("T")


def on_deep_stack(work: Callable[[], T]) -> T:
    """The result of `work`, on a thread of its own. Raises what it raises, and `Overloaded` where memory lacks."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    with _one_at_a_time:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="grammar")
            thread.start()
        except (RuntimeError, MemoryError) as error:
            raise Overloaded("there is no memory for this grammar now; try again shortly") from error
        finally:
            threading.stack_size(usual)
        thread.join()
    return done.result()
