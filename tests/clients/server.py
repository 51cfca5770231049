"""The real server for the client matrix: `python -m tests.clients.server HOME`, its key in OMLX_API_KEY.

Its engine process (`--engine --fd N`) is the real worker around a batch that answers by `script`. With `--computes`
behind HOME it is the real engine with a tiny random model, which writes nonsense until its small window is full.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from omlx.server.engine.messages import Submit
from omlx.server.engine.process import EngineCommand
from omlx.server.engine.worker import run, set_signals
from omlx.server.serving import serve
from omlx.server.settings import ServeSettings

from ..scripted_engine import PacedBatch
from ..text_model import END_OF_TURN, build_text_model, byte_tokenizer
from ..tiny_model import build_tiny_model
from .script import answer_to

MODEL = "tiny"
CONTEXT_WINDOW = 16_384
_SMALL_WINDOW = 512
_STEP_SECONDS = 0.005

_THINKING = """\
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{- message.content }}"""
"""In place of the bare content: by this the server knows how the model marks its thinking."""


class AnsweringBatch(PacedBatch):
    """Chooses each answer by the prompt. It takes its time: what comes all at once is sent in one piece."""

    def __init__(self) -> None:
        self._tokenizer = byte_tokenizer()
        super().__init__([self._tokenizer.encode(END_OF_TURN).ids], _STEP_SECONDS)

    def open(self, request: Submit) -> int:
        position = super().open(request)
        prompt = self._tokenizer.decode(request.token_ids, skip_special_tokens=False)
        self._answers[request.request_id] = self._tokenizer.encode(answer_to(prompt) + END_OF_TURN).ids
        return position


def main() -> int:
    if sys.argv[1] == "--engine":
        set_signals()
        return run(socket.socket(fileno=int(sys.argv[3])), AnsweringBatch)
    home = Path(sys.argv[1])
    settings = ServeSettings(home, (home / "models",), port=0, api_key=os.environ["OMLX_API_KEY"])
    if "--computes" in sys.argv:
        build_tiny_model(home / "models" / MODEL, context_window=_SMALL_WINDOW)
        serve(settings)
        return 0
    build_text_model(home / "models" / MODEL, CONTEXT_WINDOW)
    template = home / "models" / MODEL / "chat_template.jinja"
    template.write_text(template.read_text().replace("{{ message.content }}", _THINKING))
    argv = [sys.executable, "-m", "tests.clients.server", "--engine"]
    command = EngineCommand(argv, {"PYTHONPATH": str(Path(__file__).parents[2])})
    serve(settings, engine_command=lambda _: command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
