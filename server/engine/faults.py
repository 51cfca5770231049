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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import EngineFailure, OmlxError, RequestFailed

logger = logging.getLogger(__name__)

_MAX_CHARACTERS = 300


@contextmanager
def contained(request_ids: Sequence[str]) -> Iterator[None]:
    """Within, nothing but what belongs to these requests is touched: what goes wrong is logged, and raised as
    `RequestFailed`. Errors raised on purpose pass."""
    try:
        yield
    except OmlxError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        names = ", ".join(request_ids)
        logger.error("request %s: its own part of the work failed; the others go on", names, exc_info=error)
        raise RequestFailed(told(error)) from error


@contextmanager
def shared() -> Iterator[None]:
    """Within, amid a `contained` part, what all share is touched: what goes wrong is raised as `EngineFailure`, which
    ends the engine."""
    try:
        yield
    except OmlxError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        logger.error("what all requests share failed while a prompt was computed", exc_info=error)
        raise EngineFailure(f"{type(error).__name__}: {error}") from error


def is_fault(error: BaseException) -> bool:
    """Whether something is wrong, rather than somebody ending the process. A panic in Rust is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def told(error: BaseException) -> str:
    """The fact and the remedy, for the client."""
    what = f"{type(error).__name__}: {error}"
    what = what if len(what) <= _MAX_CHARACTERS else f"{what[:_MAX_CHARACTERS]}…"
    return f"the engine failed at this request ({what}); the log has the details. The same again would likely fail, too"
