"""Prints what an imported model chooses, as JSON; a process of its own, so that it gets a fast BLAS.

Standard input is a list of [prompt token ids, expected token ids]. For each the output has the model's greedy
choice at every expected position, given the expected tokens before it, and the logits of the first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlx.core as mx

from omlx.server.models.loading import load_model


def main(folder: Path) -> None:
    model = load_model(folder).model
    answers: list[dict[str, object]] = []
    for prompt, written in json.load(sys.stdin):
        logits = model(mx.array([prompt + written[:-1]]))[0, len(prompt) - 1 :].astype(mx.float32)
        choices = mx.argmax(logits, axis=-1)
        mx.eval(logits, choices)
        answers.append({"choices": choices.tolist(), "logits": logits[0].tolist()})
    print(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
