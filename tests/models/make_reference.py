"""Writes reference.json: what independent readers make of the embedded model's GGUF.

The numbers come from Hugging Face's transformers in float32, the token ids from llama.cpp (xllamacpp):
transformers ignores a GGUF's pre-tokenizer. Run it by hand where torch, transformers, accelerate, gguf and
xllamacpp are installed: `python -m tests.models.make_reference FILE.gguf OUTPUT.json`. The tests compare our
import with the file it writes.
"""

from __future__ import annotations

import hashlib
import json
import sys
import urllib.request
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from omlx.server.models.gguf import read_gguf

from .small_gguf import SmallLlama

PRE_TOKENIZERS = ("smollm", "starcoder", "refact", "gpt-2", "olmo", "llama-bpe", "qwen2", "default")
NUM_TOKENS = 40
NUM_LOGITS = 16

PROMPTS = (
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n: int) -> int:\n    ",
    "Once upon a time, in a village by the sea, there lived an old fisherman who",
    "The numbers 12, 345 and 6789 add up to",
    "Die Hauptstadt von Österreich ist",
)
TEXTS = (
    "",
    " ",
    "Hello, world!",
    "It's what we'll do: they've said I'd can't, WE'LL",
    "tabs\tand\t\ttabs\n\n\nlines \r\n carriage\r returns   \n  indented\n    more   ",
    "   leading spaces and trailing   ",
    "1 12 123 1234567890 3.14159 0x1F 1e-5 2026-11-23 ½ ٣٤ ४५",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.5f; } // sum\n#include <vector>",
    "def f(x):\n\treturn {\"a\": [x ** 2, None], 'b': x[::-1]}\n",
    "Größe, naïve café, Ångström, Zürich, œuvre, ﬁ",
    "e\u0301 (combining) and \u00e9 (composed)",
    "日本語のテキストと中文文本 한국어 텍스트",
    "Привет, мир! Ωραία. שלום עולם مرحبا بالعالم नमस्ते",
    "👩‍👩‍👧‍👦 🇩🇪 🙂🙃 ✅ → ∑∫ ≠ ½ €",
    "zero\u200bwidth\u00a0nbsp\u3000wide\ufeffbom \x00 nul \x7f del",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|im_end|> <repo_name><file_sep>x<jupyter_code> <|im_sta rt|>",
    "$%^&*()_+-=[]{}|;':\",./<>?`~!@#",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)


def load(gguf: Path) -> Any:
    """The model in float32, evaluated on the CPU."""
    torch, transformers = import_module("torch"), import_module("transformers")

    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    ).eval()


def greedy(model: Any, token_ids: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """`count` greedy tokens after `token_ids`, stop tokens included, and all logits of the first of them."""
    torch = import_module("torch")

    inputs, cache, written, first = torch.tensor([list(token_ids)]), None, list[int](), list[float]()
    with torch.inference_mode():
        for _ in range(count):
            output = model(inputs, past_key_values=cache, use_cache=True)
            cache, logits = output.past_key_values, output.logits[0, -1]
            first = first or logits.tolist()
            written.append(int(logits.argmax()))
            inputs = torch.tensor([written[-1:]])
    return written, first


def answers(gguf: Path, num_prompts: int) -> list[dict[str, object]]:
    """What the model writes after each prompt, by transformers alone."""
    model = load(gguf)
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    found: list[dict[str, object]] = []
    for prompt in PROMPTS[:num_prompts]:
        token_ids = tokenizer.encode(prompt, add_special_tokens=False)
        written, logits = greedy(model, token_ids, NUM_TOKENS)
        top = sorted(range(len(logits)), key=logits.__getitem__, reverse=True)[:NUM_LOGITS]
        values = {str(token_id): round(logits[token_id], 4) for token_id in top}
        found.append({"prompt": prompt, "token_ids": token_ids, "written": written, "logits": values})
    return found


def llama_cpp_token_ids(gguf: Path) -> list[list[int]]:
    """llama.cpp's token ids for each of `TEXTS`."""
    xllamacpp = import_module("xllamacpp")

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = 256
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    found: list[list[int]] = []
    for text in TEXTS:
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", body)
        with urllib.request.urlopen(request) as response:
            found.append(json.load(response)["tokens"])
    return found


def token_ids_by_pre_tokenizer(gguf: Path, folder: Path) -> dict[str, list[list[int]]]:
    """The same vocabulary under every pre-tokenizer, in a model small enough to load a dozen times."""
    metadata = read_gguf(gguf).metadata
    found: dict[str, list[list[int]]] = {}
    for name in PRE_TOKENIZERS:
        path = folder / f"{name}.gguf"
        keys = {key: metadata[key] for key in metadata if key.startswith("tokenizer.")} | {"tokenizer.ggml.pre": name}
        tokens = metadata["tokenizer.ggml.tokens"]
        SmallLlama(tokens=cast(list[str], tokens), layers=1, metadata=keys).write(path)
        found[name] = llama_cpp_token_ids(path)
    return found


def main(gguf: Path, output: Path) -> None:
    document: dict[str, object] = {"sha256": hashlib.sha256(gguf.read_bytes()).hexdigest()}
    document["answers"] = answers(gguf, len(PROMPTS))
    document["texts"] = TEXTS
    with TemporaryDirectory() as folder:
        document["token_ids"] = token_ids_by_pre_tokenizer(gguf, Path(folder))
    output.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
