"""A conversation on the terminal. A model's words are shown as text: what would steer the terminal is taken out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from .completion import Completion, complete

if TYPE_CHECKING:
    import httpx

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Talk:
    """What was said so far. An answer that was stopped is forgotten with its question."""

    def __init__(self, http: httpx.Client, model: str, system: str | None) -> None:
        self._http = http
        self._model = model
        self._system = [{"role": "system", "content": system}] if system else []
        self._messages: list[dict[str, str]] = []

    def ask(self, text: str, on_text: Callable[[str, str], None]) -> Completion:
        asked = [*self._messages, {"role": "user", "content": text}]
        body = {"model": self._model, "messages": [*self._system, *asked]}
        answer = complete(self._http, body, on_text=on_text)
        self._messages = [*asked, {"role": "assistant", "content": answer.text}]
        return answer

    def begin_anew(self) -> None:
        self._messages = []


class Screen:
    """Writes pieces of text as they come, and what the model thinks dimmed, or between marks without colours."""

    def __init__(self, stream: TextIO, *, coloured: bool) -> None:
        self._stream = stream
        self._begin, self._end = ("\x1b[2m", "\x1b[0m") if coloured else ("(thinking) ", " (done)")
        self._thinks = False

    def show(self, text: str, reasoning: str) -> None:
        if reasoning and not self._thinks:
            self._stream.write(self._begin)
        self._thinks = self._thinks or bool(reasoning)
        self._stream.write(_STEERING.sub("", reasoning))
        if text:
            self._leave_thinking()
        self._stream.write(_STEERING.sub("", text))
        self._stream.flush()

    def end(self) -> None:
        self._leave_thinking(last=True)
        self._stream.write("\n")
        self._stream.flush()

    def _leave_thinking(self, *, last: bool = False) -> None:
        if self._thinks:
            self._stream.write(self._end if last else f"{self._end}\n")
            self._thinks = False


def converse(talk: Talk, screen: Screen, read: Callable[[str], str] = input) -> None:
    """Ask and answer until the end of input."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives `input` a history and its keys
    while True:
        try:
            text = read("> ").strip()
        except (EOFError, KeyboardInterrupt):
            screen.end()
            return
        if text == "/new":
            talk.begin_anew()
            screen.show("A new conversation.", "")
            screen.end()
        elif text:
            with contextlib.suppress(KeyboardInterrupt):
                talk.ask(text, screen.show)
            screen.end()


def answer_json(model: str, answer: Completion) -> str:
    return json.dumps(
        {
            "model": model,
            "text": answer.text,
            "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "completion_tokens": answer.completion_tokens,
            "seconds": answer.wall_seconds,
        },
        indent=2,
        ensure_ascii=False,
    )
