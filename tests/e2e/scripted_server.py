"""The real server on an engine that plays a script: `python -m tests.e2e.scripted_server ANSWERS.json [GRACE]`.

ANSWERS holds the answers as text, in the order in which requests reach the engine; GRACE is the seconds that open
requests may go on after a signal. The model is called `scripted`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omlx.server.serving import serve
from omlx.server.settings import ServeSettings

from ..scripted_engine import Script
from ..text_model import END_OF_TURN, build_text_model

MODEL = "scripted"
CONTEXT_WINDOW = 262_144
"""Wide: the model's tokens are bytes, and Claude Code opens with 48 KB."""


def main() -> None:
    answers: list[str] = json.loads(Path(sys.argv[1]).read_text())
    home = Path(os.environ["HOME"]) / ".omlx"
    folder = home / "models"
    tokenizer = build_text_model(folder / MODEL, CONTEXT_WINDOW)
    script = Script([tokenizer.encode(answer + END_OF_TURN).ids for answer in answers])
    command = script.command(home / "script.json")
    grace_seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    settings = ServeSettings(home=home, model_dirs=(folder,), port=0, shutdown_grace_seconds=grace_seconds)
    serve(settings, engine_command=lambda _: command)


if __name__ == "__main__":
    main()
