"""`omlx bench`: how fast an endpoint answers, alone, to several at once, and as the prompt grows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .completion import Completion, complete
from .errors import ServerError

if TYPE_CHECKING:
    import httpx

RAMP = (5_000, 10_000, 20_000, 50_000, 100_000)
_WORDS_PER_TOKEN = 0.48  # in lines with numbers, whose digits are tokens each
_ANSWER_TOKENS = 128
_RAMP_ANSWER_TOKENS = 16
_ROOM = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How many streams at once, and how long the prompts; those that do not fit the `window` are left out."""

    concurrency: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    window: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: `kind` is throughput or context, `amount` the streams or the prompt's tokens as told.

    Rates in tokens a second, None where they cannot be told; `error` says why there are none.
    """

    kind: str
    amount: int
    first_token_seconds: float | None = None
    prefill_rate: float | None = None
    decode_rate: float | None = None
    total_rate: float | None = None
    cached_tokens: int | None = None
    error: str = ""


def measure(http: httpx.Client, model: str, plan: Plan, report: Callable[[str], None]) -> Iterator[Row]:
    """Measure one row after the other."""
    for streams in plan.concurrency:
        report(f"{streams} streams at once…" if streams > 1 else "one stream…")
        yield _throughput(http, model, streams)
    for length in plan.prompt_tokens:
        if plan.window is not None and length + _ROOM > plan.window:
            yield Row("context", length, error=f"the window has {plan.window:,}")
            continue
        report(f"a prompt of about {length:,} tokens…")
        yield _context(http, model, length)


def _throughput(http: httpx.Client, model: str, streams: int) -> Row:
    def ask(_: int) -> Completion:
        return complete(http, _body(model, f"{secrets.token_hex(4)} Count from 1 upwards in words.", _ANSWER_TOKENS))

    began = time.perf_counter()
    try:
        with ThreadPoolExecutor(streams) as threads:
            answers = list(threads.map(ask, range(streams)))
    except ServerError as error:
        return Row("throughput", streams, error=str(error))
    wall = time.perf_counter() - began
    counts = [answer.completion_tokens for answer in answers]
    total = None if None in counts else sum(count or 0 for count in counts) / wall
    return Row(
        "throughput",
        streams,
        first_token_seconds=_mean([answer.first_token_seconds for answer in answers]),
        decode_rate=_mean([answer.decode_rate for answer in answers]),
        total_rate=total,
    )


def _context(http: httpx.Client, model: str, length: int) -> Row:
    try:
        answer = complete(http, _body(model, _text(length), _RAMP_ANSWER_TOKENS))
    except ServerError as error:
        return Row("context", length, error=str(error))
    first, tokens = answer.first_token_seconds, answer.prompt_tokens
    computed = None if tokens is None else tokens - (answer.cached_tokens or 0)
    return Row(
        "context",
        tokens or length,
        first_token_seconds=first,
        prefill_rate=computed / first if computed and first else None,
        decode_rate=answer.decode_rate,
        cached_tokens=answer.cached_tokens,
    )


def _body(model: str, text: str, max_tokens: int) -> dict[str, object]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": 0,
    }


def _text(num_tokens: int) -> str:
    """A text of about so many tokens that no cache holds: it begins with a random word."""
    words = int(num_tokens * _WORDS_PER_TOKEN)
    lines = (f"item {number} costs {number * 7 % 101} coins" for number in range(words // 5))
    return f"{secrets.token_hex(8)}\n" + "\n".join(lines) + "\nWhich item is the cheapest? Answer in one line."


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
