"""The tiny random model, taught two things: to draw its words from a short list, and to end its turn."""

from __future__ import annotations

from pathlib import Path

import tokenizers
from safetensors.numpy import load_file, save_file

from ..tiny_model import build_tiny_model

WORDS = (
    "river",
    "stone",
    "light",
    "tree",
    "wind",
    "bird",
    "road",
    "house",
    "sea",
    "rain",
    "sun",
    "moon",
    "hill",
    "fire",
)
_EMBEDDED = 3.0
_WANTED = 4.0


def build_wordy_model(folder: Path) -> Path:
    """A model that writes about fifteen words of `WORDS` and stops, never before the first word.

    Two of the hidden dimensions carry a constant through the layers. One makes the words likely; the other makes
    the end of the turn as likely as each word, but not after a line break, with which every prompt ends.
    """
    build_tiny_model(folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = [tokenizer.encode(f" {word}").ids[0] for word in WORDS]
    line_break, end_of_turn = tokenizer.encode("\n").ids[0], tokenizer.token_to_id("<|im_end|>")
    path = folder / "model.safetensors"
    weights = {name: weight.copy() for name, weight in load_file(path).items()}
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight *= 0.1
            weight[:2] = 0.0
    embedding, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    embedding[:, :2] = _EMBEDDED
    embedding[line_break, 1] = -_EMBEDDED
    head *= 0.1
    head[words, 0] = _WANTED
    head[end_of_turn, 1] = _WANTED
    save_file(weights, path)
    return folder
