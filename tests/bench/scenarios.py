"""The rows of the table: what is asked of a server, and what is read off its answers.

A scenario gets a client and a share of its full size, and gives its figures by name. `GOALS` says of each figure
whether more is better and which ratio to the best peer is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

from .chat import Chat, ChatClient, Messages, asks, words
from .gpu_client import Stream

Figures = dict[str, float]
Scenario = Callable[[ChatClient, float, int], Figures]


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times better than the best peer's the figure is to be, or than that of the peer `beside`; or, with
    `is_own`, what the figure itself is to reach, or for one that is no rate, not to pass.

    Its floor, or for a rate its ceiling, is that all weights are read once for `num_a_pass` tokens."""

    ratio: float
    is_rate: bool = False
    unit: str = "s"
    is_own: bool = False
    beside: str = ""
    num_a_pass: int = 0
    is_whole: bool = False
    """Whether the model has all of its layers for it."""


WARM_MEMORY = "2K cold, over again from memory"
WARM_DISK = "2K cold, over again from disk after a restart"
SAME_TEXT = "file edit: how much of mlx_lm.server's text comes before the first difference"
GOALS = {
    "longest gap of 4 streams while 4K arrive": Goal(10, beside="mlx_lm.server"),
    "TTFT of those 4K": Goal(1, beside="mlx_lm.server"),
    "mean TTFT, 2,000 and seven of 100 tokens at once": Goal(5),
    "16 staggered, sampled": Goal(1.6, True, "tokens/s"),
    "16 staggered, sampled: mean TTFT": Goal(3),
    "16 staggered, greedy": Goal(1.2, True, "tokens/s"),
    "16 staggered, greedy: mean TTFT": Goal(2),
    "1 stream": Goal(1, True, "tokens/s", num_a_pass=1),
    "file edit": Goal(2.5, True, "tokens/s"),
    SAME_TEXT: Goal(1, True, "of 1", is_own=True),
    "10 turns of an agent": Goal(1 / 0.95),
    "one token of a cached prompt: TTFT": Goal(1 / 0.65, num_a_pass=1),
    "8 streams": Goal(1.1, True, "tokens/s", num_a_pass=8),
    "16 streams": Goal(1.1, True, "tokens/s", num_a_pass=16),
    "2K again: TTFT": Goal(1, num_a_pass=1, is_whole=True),
    "2K again and 93 tokens more: TTFT": Goal(1),
    "2K, cold: TTFT": Goal(1),
    "2K from disk after a restart: TTFT": Goal(1),
    WARM_MEMORY: Goal(50, True, "times", is_own=True),
    WARM_DISK: Goal(40, True, "times", is_own=True),
    "short prompt beside 4 streams: TTFT": Goal(1),
    "short prompt alone: TTFT": Goal(1, num_a_pass=1),
    "short prompt beside 4 streams, over alone": Goal(2, unit="times", is_own=True),
}


def prompt_beside_streams(client: ChatClient, share: float, seed: int) -> Figures:
    running = [Chat(asks(words(30, seed + row)), int(256 * share) + 24, 0.7) for row in range(4)]
    streams, late = client.ask_beside(running, Chat(asks(words(int(4000 * share), seed + 5)), 1), after=8)
    return {
        "longest gap of 4 streams while 4K arrive": max(stream.longest_gap for stream in streams),
        "TTFT of those 4K": late.first_seconds,
    }


def short_beside_streams(client: ChatClient, share: float, seed: int) -> Figures:
    alone = client.ask(Chat(asks(words(40, seed + 9)), 1))[0]
    running = [Chat(asks(words(30, seed + row)), int(64 * share) + 24, 0.7) for row in range(4)]
    _, late = client.ask_beside(running, Chat(asks(words(40, seed + 5)), 1), after=8)
    return {
        "short prompt alone: TTFT": alone.first_seconds,
        "short prompt beside 4 streams: TTFT": late.first_seconds,
        "short prompt beside 4 streams, over alone": late.first_seconds / alone.first_seconds,
    }


def mixed_prompts(client: ChatClient, share: float, seed: int) -> Figures:
    lengths = [int(2000 * share), *[100] * 7]
    streams = client.ask(*(Chat(asks(words(length, seed + row)), 4) for row, length in enumerate(lengths)))
    return {"mean TTFT, 2,000 and seven of 100 tokens at once": fmean(stream.first_seconds for stream in streams)}


def staggered(client: ChatClient, share: float, seed: int, temperature: float, name: str) -> Figures:
    count = max(2, int(16 * share))
    chats = [
        Chat(asks(words(60 + int(1440 * share) * (row * 7 % 16) // 15, seed + row)), 32, temperature, 0.3 * share * row)
        for row in range(count)
    ]
    streams = client.ask(*chats)
    return {name: rate(streams), f"{name}: mean TTFT": fmean(stream.first_seconds for stream in streams)}


def staggered_sampled(client: ChatClient, share: float, seed: int) -> Figures:
    return staggered(client, share, seed, 0.7, "16 staggered, sampled")


def staggered_greedy(client: ChatClient, share: float, seed: int) -> Figures:
    return staggered(client, share, seed, 0.0, "16 staggered, greedy")


def one_stream(client: ChatClient, share: float, seed: int) -> Figures:
    """Sampled, so that nothing repeats which a draft could know beforehand."""
    stream = client.ask(Chat(asks(words(60, seed)), int(64 * share) + 2, 0.9))[0]
    if len(stream.times) == 1:
        return {"1 stream": stream.tokens / stream.first_seconds}
    return {"1 stream": (stream.tokens - 1) / (stream.times[-1] - stream.times[0])}


def file_edit(client: ChatClient, share: float, seed: int) -> Figures:
    """The file is written a third time: a small model copies what it has copied before. As long at every share."""
    del share
    names = words(6, seed).split()
    file = "\n".join(f"def {name}_{row}(value): return value + {row}" for row, name in enumerate(names))
    turn: Messages = [*asks("Write the file."), {"role": "assistant", "content": file}]
    stream = client.ask(Chat([*turn, *turn, *asks("Write the file.")], 120))[0]
    client.texts[SAME_TEXT] = stream.text.strip()  # mlx_lm.server drops the first space
    return {"file edit": stream.tokens / (stream.times[-1] - stream.asked)}


def agent(client: ChatClient, share: float, seed: int) -> Figures:
    messages: Messages = [{"role": "system", "content": words(int(1750 * share), seed)}]
    seconds = 0.0
    for turn in range(max(2, int(10 * share))):
        messages.append({"role": "user", "content": words(60, seed + turn + 1)})
        stream = client.ask(Chat(messages, 24))[0]
        seconds += stream.times[-1] - stream.asked
        messages.append({"role": "assistant", "content": stream.text})
    return {"10 turns of an agent": seconds}


def one_token(client: ChatClient, share: float, seed: int) -> Figures:
    chat = Chat(asks(words(24, seed)), 1)
    client.ask(chat)
    return {"one token of a cached prompt: TTFT": median(_first(client, chat) for _ in range(max(2, int(8 * share))))}


def equal_streams(client: ChatClient, share: float, seed: int) -> Figures:
    figures = {}
    for count in (8, 16):
        chats = [Chat(asks(words(60, seed + count + row)), int(32 * share) + 2) for row in range(count)]
        figures[f"{count} streams"] = rate(client.ask(*chats))
    return figures


def prompt_again(client: ChatClient, share: float, seed: int) -> Figures:
    text = _long_text(share, seed)
    cold, again = (_first(client, Chat(asks(text), 1)) for _ in range(2))
    return {
        "2K, cold: TTFT": cold,
        "2K again: TTFT": again,
        WARM_MEMORY: cold / again,
        "2K again and 93 tokens more: TTFT": _first(client, _more(text, seed)),
    }


def prompt_after_restart(client: ChatClient, share: float, seed: int) -> Figures:
    """The last prompt of `prompt_again`, of a server that has been started anew since: of the first, whose end the last
    has taken up, whole blocks are left. The system may still have the files in memory."""
    return {"2K from disk after a restart: TTFT": _first(client, _more(_long_text(share, seed), seed))}


def _long_text(share: float, seed: int) -> str:
    return words(int(1900 * share), seed)


def _more(text: str, seed: int) -> Chat:
    """93 tokens after the text and its answer."""
    return Chat([*asks(text), {"role": "assistant", "content": "Yes."}, *asks(words(80, seed + 1))], 1)


SCENARIOS: tuple[Scenario, ...] = (
    one_token,
    agent,
    one_stream,
    file_edit,
    equal_streams,
    prompt_again,
    mixed_prompts,
    staggered_sampled,
    staggered_greedy,
    short_beside_streams,
    prompt_beside_streams,
)

WHOLE: tuple[Scenario, ...] = (file_edit, prompt_again)
"""Asked of the model with all its layers: with the first few it copies nothing, and half the time of a step, which is
what a prompt found whole takes, is its head's."""


def rate(streams: list[Stream]) -> float:
    """All tokens over the time from the first request to the last token."""
    began, ended = min(stream.asked for stream in streams), max(stream.times[-1] for stream in streams)
    return sum(stream.tokens for stream in streams) / (ended - began)


def _first(client: ChatClient, chat: Chat) -> float:
    return client.ask(chat)[0].first_seconds
