"""What goes wrong with one request alone, told from what may concern the others.

Contained is what touches nothing but the request's own: opening its row, computing its prompt, and what is done for
each row by itself when tokens are chosen. Its arrays are let go with it; what MLX had computed for others by then stays
as it is, and a device that is lost is asked and fails again. The prefix cache is everybody's, but its books are checked
as soon as the engine is idle, which ends one whose books are wrong. Where MLX ends the process instead of raising, as
its CPU backend does for want of memory, there is nothing to contain.

Not contained is what all rows share: a step that decodes them, a prompt's row taking its place among theirs, and any
call in a group of ranks, of which the others would have to know. Arrays that depend on one that could not be computed
may never come, and whose they are cannot be told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ..errors import EngineFailure, OmlxError, RequestFailed

logger = logging.getLogger(__name__)

_MAX_CHARACTERS = 300


def contained(request_ids: Sequence[str]) -> AbstractContextManager[None]:
    """Within, nothing but what belongs to these requests is touched: what goes wrong is logged, and raised as
    `RequestFailed`. Errors raised on purpose pass."""
    names = ", ".join(request_ids)
    words = f"request {names}: its own part of the work failed; the others go on"
    return _raising(words, lambda error: RequestFailed(told(error)))


def shared() -> AbstractContextManager[None]:
    """Within, amid a `contained` part, what all share is touched: what goes wrong is raised as `EngineFailure`, which
    ends the engine."""
    words = "what all requests share failed while a prompt was computed"
    return _raising(words, lambda error: EngineFailure(f"{type(error).__name__}: {error}"))


@contextmanager
def _raising(words: str, failure: Callable[[BaseException], OmlxError]) -> Iterator[None]:
    """What goes wrong within is logged, behind these words, and raised as this failure."""
    try:
        yield
    except OmlxError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        logger.error("%s", words, exc_info=error)
        raise failure(error) from error


def is_fault(error: BaseException) -> bool:
    """Whether something is wrong, rather than somebody ending the process. A panic in Rust is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def told(error: BaseException) -> str:
    """The fact and the remedy, for the client."""
    what = f"{type(error).__name__}: {error}"
    what = what if len(what) <= _MAX_CHARACTERS else f"{what[:_MAX_CHARACTERS]}…"
    return f"the engine failed at this request ({what}); the log has the details. The same again would likely fail, too"
