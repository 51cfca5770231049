"""The real server on an engine that plays a conversation: `python -m tests.e2e.talking_server ANSWERS.json`.

It asks for a key. ANSWERS holds the model's answers of one conversation as text; its template renders reasoning.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.resources import files
from pathlib import Path

from omlx.server.serving import serve
from omlx.server.settings import ServeSettings

from ..text_model import END_OF_TURN, build_text_model
from .talking_engine import Talk

MODEL = "scripted"
KEY = "the-key-of-this-server"
CONTEXT_WINDOW = 262_144
"""Wide: the model's tokens are bytes, and agents open with up to 90 KB."""
ASIDE = "About words that commands print"
"""What it says where no tools are offered: agents ask for titles, and Codex for a summary."""


def main() -> None:
    answers: list[str] = json.loads(Path(sys.argv[1]).read_text())
    home = Path(os.environ["HOME"]) / ".omlx"
    folder = home / "models"
    tokenizer = build_text_model(folder / MODEL, CONTEXT_WINDOW)
    template = files("omlx.templates").joinpath("chat/chatml_tools.jinja").read_text(encoding="utf-8")
    (folder / MODEL / "chat_template.jinja").write_text(template)

    def tokens(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    talk = Talk(
        answers=[tokens(answer + END_OF_TURN) for answer in answers],
        aside=tokens(ASIDE + END_OF_TURN),
        turn=tokens("<|im_start|>assistant\n"),
        tools=tokens("\n<tools>\n"),
        summary=tokens("CONTEXT CHECKPOINT COMPACTION"),
    )
    command = talk.command(home / "script.json")
    settings = ServeSettings(home=home, model_dirs=(folder,), port=0, api_key=KEY)
    serve(settings, engine_command=lambda _: command)


if __name__ == "__main__":
    main()
