"""The real server for the client matrix: `python -m tests.clients.server HOME`, its key in OMLX_API_KEY.

Its engine process (`--engine MODEL --fd N`) is the real worker around a batch that answers by `script`. With
`--computes` behind HOME it is the real engine with a tiny random model, which writes nonsense until its small window
is full; with `--with-busy` there is a second model, which has no room for anyone.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from omlx.server.engine.engine import Engine
from omlx.server.engine.messages import SequenceUpdate, StepOutput, Submit
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.scheduler import Scheduler, SchedulerLimits
from omlx.server.engine.worker import serve as serve_engine
from omlx.server.engine.worker import set_signals
from omlx.server.models.catalog import ModelEntry
from omlx.server.serving import serve
from omlx.server.settings import ServeSettings

from ..scripted_engine import PacedBatch
from ..text_model import END_OF_TURN, build_text_model, byte_tokenizer
from ..tiny_model import build_tiny_model
from .drivers.driving import BUSY_MODEL, MAX_BODY_BYTES, MODEL
from .script import FALLS, HELLO, answer_to

CONTEXT_WINDOW = 16_384
_SMALL_WINDOW = 512
_STEP_SECONDS = 0.005
_SLOW_STEP_SECONDS = 0.03
"""For what must come in pieces: half a second for all of it, so that a busy machine does not read it at once."""

_THINKING = """\
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content }}"""
"""In place of the bare content: by this the server knows how the model marks its thinking."""


class AnsweringBatch(PacedBatch):
    """Chooses each answer by the prompt. It takes its time: what comes all at once is sent in one piece."""

    def __init__(self) -> None:
        self._tokenizer = byte_tokenizer()
        super().__init__([self._tokenizer.encode(END_OF_TURN).ids], _STEP_SECONDS)
        self.falling: set[str] = set()

    def open(self, request: Submit) -> int:
        position = super().open(request)
        prompt = self._tokenizer.decode(request.token_ids, skip_special_tokens=False)
        answer = answer_to(prompt)
        self._answers[request.request_id] = self._tokenizer.encode(answer + END_OF_TURN).ids
        self._step_seconds = _SLOW_STEP_SECONDS if answer == HELLO else _STEP_SECONDS
        if answer == FALLS:
            self.falling.add(request.request_id)
        return position


class FallingEngine(Engine):
    """Fails a request whose answer says so, once it has written a piece of it."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self._falling = AnsweringBatch()
        super().__init__(Scheduler(limits), self._falling, time.perf_counter)

    def step(self) -> StepOutput:
        output = super().step()
        return StepOutput([self._told(update) for update in output.updates], output.stats)

    def _told(self, update: SequenceUpdate) -> SequenceUpdate:
        if update.request_id not in self._falling.falling or update.finish_reason is None:
            return update
        return SequenceUpdate(update.request_id, error="engine_failure: the model fell over")


def main() -> int:
    if sys.argv[1] == "--engine":
        set_signals()
        limits = SchedulerLimits(max_num_waiting=0) if sys.argv[2] == BUSY_MODEL else SchedulerLimits()
        return serve_engine(socket.socket(fileno=int(sys.argv[4])), lambda: FallingEngine(limits))
    home = Path(sys.argv[1])
    settings = ServeSettings(
        home, (home / "models",), port=0, api_key=os.environ["OMLX_API_KEY"], max_body_bytes=MAX_BODY_BYTES
    )
    if "--computes" in sys.argv:
        build_tiny_model(home / "models" / MODEL, context_window=_SMALL_WINDOW)
        serve(settings)
        return 0
    if "--with-busy" in sys.argv:
        build_text_model(home / "models" / BUSY_MODEL, CONTEXT_WINDOW)
    build_text_model(home / "models" / MODEL, CONTEXT_WINDOW)
    template = home / "models" / MODEL / "chat_template.jinja"
    template.write_text(template.read_text().replace("{{ message.content }}", _THINKING))
    serve(settings, engine_command=_engine)
    return 0


def _engine(entry: ModelEntry) -> EngineCommand:
    argv = [sys.executable, "-m", "tests.clients.server", "--engine", entry.id]
    return EngineCommand(argv, {"PYTHONPATH": str(Path(__file__).parents[2])})


if __name__ == "__main__":
    sys.exit(main())
