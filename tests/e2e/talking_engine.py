"""A scripted engine that follows the conversation: `python -m tests.e2e.talking_engine --script FILE --fd N`.

The n-th answer of the script goes to the prompt that holds n earlier answers, so that neither a title asked for
at the same time nor a request sent again takes an answer away. A prompt without tools, or one that asks for a summary,
gets the `aside`; where that stands in the prompt as a summary, the last answer follows.
"""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

import msgspec

from omlx.server.engine.messages import Submit
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.engine.worker import run, set_signals

from ..engine.scripted_batch import ScriptedBatch


class Talk(msgspec.Struct):
    """Everything in token ids; `turn` opens an answer in the prompt, `tools` is how a list of tools begins, and
    `summary` stands where one is asked for."""

    answers: list[list[int]]
    aside: list[int]
    turn: list[int]
    tools: list[int]
    summary: list[int]

    def command(self, path: Path) -> EngineCommand:
        """Write the script to `path`; the command that plays it."""
        path.write_bytes(msgspec.json.encode(self))
        argv = [sys.executable, "-m", "tests.e2e.talking_engine", "--script", str(path)]
        return EngineCommand(argv, {"PYTHONPATH": str(Path(__file__).parents[2])})

    def answer(self, prompt: list[int]) -> list[int]:
        text = _as_text(prompt)
        if _as_text(self.tools) not in text or _as_text(self.summary) in text:
            return self.aside
        if _as_text(self.aside[:-1]) in text:
            return self.answers[-1]
        num_answered = text.count(_as_text(self.turn)) - 1
        return self.answers[min(num_answered, len(self.answers) - 1)]


class TalkingBatch(ScriptedBatch):
    def __init__(self, talk: Talk) -> None:
        super().__init__(talk.answers)
        self._talk = talk

    def open(self, request: Submit) -> int:
        position = super().open(request)
        self._answers[request.request_id] = list(self._talk.answer(request.token_ids))
        return position


def _as_text(token_ids: list[int]) -> str:
    """A character a token, to search in."""
    return "".join(map(chr, token_ids))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    set_signals()
    talk = msgspec.json.decode(arguments.script.read_bytes(), type=Talk)
    return run(socket.socket(fileno=arguments.fd), lambda: TalkingBatch(talk), SchedulerLimits())


if __name__ == "__main__":
    sys.exit(main())
