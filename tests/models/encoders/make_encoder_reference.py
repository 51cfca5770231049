"""Writes encoder_reference.json, what transformers makes of the tiny encoders. Run it where torch and transformers are:

python -m tests.models.encoders.make_encoder_reference
"""

from __future__ import annotations

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from .random_encoders import CONFIGS, PAIRS, ROWS, build

REFERENCE = Path(__file__).with_name("encoder_reference.json")


def main() -> None:
    torch, transformers = import_module("torch"), import_module("transformers")
    found: dict[str, list[list[float]]] = {}
    for name, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            path = build(Path(folder) / name, config)
            found[name] = _rows(transformers, torch, path, config)
    rounded = {name: [[round(number, 6) for number in row] for row in rows] for name, rows in found.items()}
    REFERENCE.write_text(json.dumps(rounded))


def _rows(transformers: Any, torch: Any, path: Path, config: dict[str, Any]) -> list[list[float]]:
    """Each row alone, without padding: every token's vector, the classifier's logits, or the next token's."""
    if config["architectures"][0].endswith("Classification"):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
        if "type_vocab_size" not in config:
            return [model(torch.tensor([ids])).logits[0].tolist() for ids, _ in PAIRS]
        return [
            model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0].tolist() for ids, types in PAIRS
        ]
    if path.name == "Tiny-Reranker":
        inner = transformers.AutoModel.from_pretrained(path).eval()
        return [
            (inner(torch.tensor([row])).last_hidden_state[0, -1] @ inner.embed_tokens.weight.T).tolist() for row in ROWS
        ]
    model = transformers.AutoModel.from_pretrained(path).eval()
    return [model(torch.tensor([row])).last_hidden_state[0].flatten().tolist() for row in ROWS]


if __name__ == "__main__":
    main()
