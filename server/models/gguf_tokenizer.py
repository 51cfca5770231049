"""A GGUF's tokenizer metadata as the files of a model folder: tokenizer.json and tokenizer_config.json.

Only byte-level BPE (`tokenizer.ggml.model` = "gpt2") is read, and only with a pre-tokenizer known here: a
wrong split gives other token ids and a model that is quietly worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import CorruptModel, UnsupportedModel
from ..requests import Json
from .gguf import GgufFile

_CONTROL, _USER_DEFINED = 3, 4
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SPACES = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CASELESS + r"\p{N}" + _SPACES
_LLAMA3 = _CASELESS + r"\p{N}{1,3}" + _SPACES


@dataclass(frozen=True, slots=True)
class _PreTokenizer:
    """The patterns that split a text one after the other, as llama.cpp applies them (src/llama-vocab.cpp).

    `whole_words` keeps a word that is a token as it is, though no merges lead to it. `normalize` is NFC.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    normalize: bool = False


_DIGITS_GPT2 = _PreTokenizer((r"\p{N}", _GPT2))
_PLAIN_GPT2 = _PreTokenizer((_GPT2,))
_LLAMA3_BPE = _PreTokenizer((_LLAMA3,), whole_words=True)
_PRE_TOKENIZERS: Mapping[str, _PreTokenizer] = {
    "smollm": _DIGITS_GPT2,
    "starcoder": _DIGITS_GPT2,
    "refact": _DIGITS_GPT2,
    "gpt-2": _PLAIN_GPT2,
    "olmo": _PLAIN_GPT2,
    "llama3": _LLAMA3_BPE,
    "llama-v3": _LLAMA3_BPE,
    "llama-bpe": _LLAMA3_BPE,
    "qwen2": _PreTokenizer((_QWEN2,), normalize=True),
    "deepseek-r1-qwen": _PreTokenizer((_QWEN2,), normalize=True),
    "default": _PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """The documents to write, and the ids the model's configuration needs."""

    tokenizer: Mapping[str, Json]
    tokenizer_config: Mapping[str, Json]
    bos_token_id: int | None
    stop_token_ids: tuple[int, ...]


def convert_tokenizer(file: GgufFile, context_length: int, vocabulary_size: int) -> GgufTokenizer:
    """Raises `UnsupportedModel` naming the tokenizer it cannot convert, `CorruptModel` where data is missing."""
    tokens, kinds, merges = _vocabulary(file, vocabulary_size)
    splitter = _pre_tokenizer(file)
    special = {name: _token_id(file, name, len(tokens)) for name in ("bos", "eos", "eot", "eom", "padding", "unknown")}
    bos, add_bos = special["bos"], file.metadata.get("tokenizer.ggml.add_bos_token") is True
    if file.metadata.get("tokenizer.ggml.add_eos_token") is True:
        raise UnsupportedModel(f"{file.path}: its tokenizer ends every prompt (add_eos_token), no chat model does")
    config: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": add_bos,
        "model_max_length": context_length,
    }
    for key, name in (("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding"), ("unk_token", "unknown")):
        token_id = special[name]
        if token_id is not None:
            config[key] = tokens[token_id]
    template = file.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return GgufTokenizer(
        tokenizer=_document(tokens, kinds, merges, splitter, bos if add_bos else None),
        tokenizer_config=config,
        bos_token_id=bos,
        stop_token_ids=tuple(dict.fromkeys(i for i in map(special.get, ("eos", "eot", "eom")) if i is not None)),
    )


def _vocabulary(file: GgufFile, size: int) -> tuple[list[str], list[int], list[list[str]]]:
    model = file.metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise UnsupportedModel(f"{file.path}: its tokenizer model {model!r} is not supported; 'gpt2' (BPE) is")
    tokens = _strings(file, "tokenizer.ggml.tokens")
    if len(tokens) != size or len(set(tokens)) != size:
        raise CorruptModel(f"{file.path}: {len(set(tokens))} different tokens for an embedding of {size} rows")
    kinds = file.metadata.get("tokenizer.ggml.token_type", [1] * size)
    if not isinstance(kinds, list) or len(kinds) != size:
        raise CorruptModel(f"{file.path}: tokenizer.ggml.token_type has not one entry for each of the {size} tokens")
    known, merges = set(tokens), list[list[str]]()
    for line in _strings(file, "tokenizer.ggml.merges"):
        pair = line.split(" ")
        if len(pair) != 2 or not known.issuperset((*pair, "".join(pair))):
            raise CorruptModel(f"{file.path}: the merge {line!r} is not made of two tokens that give a third")
        merges.append(pair)
    return tokens, [int(kind) for kind in kinds], merges


def _strings(file: GgufFile, key: str) -> list[str]:
    value = file.metadata.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise CorruptModel(f"{file.path}: {key} is missing or no list of strings")
    return [str(item) for item in value]


def _pre_tokenizer(file: GgufFile) -> _PreTokenizer:
    name = file.metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str) or name not in _PRE_TOKENIZERS:
        known = ", ".join(_PRE_TOKENIZERS)
        raise UnsupportedModel(f"{file.path}: its pre-tokenizer {name!r} is not supported; these are: {known}")
    return _PRE_TOKENIZERS[name]


def _token_id(file: GgufFile, name: str, size: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    value = file.metadata.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < size:
        raise CorruptModel(f"{file.path}: {key} is {value!r}, outside of the {size} tokens")
    return value


def _document(
    tokens: list[str], kinds: list[int], merges: list[list[str]], splitter: _PreTokenizer, bos: int | None
) -> dict[str, Json]:
    """tokenizer.json in the format of Hugging Face's tokenizers."""
    byte_level: dict[str, Json] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    splits: list[Json] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in splitter.patterns
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added_token(token_id, tokens[token_id], kind)
            for token_id, kind in enumerate(kinds)
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": {"type": "NFC"} if splitter.normalize else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "post_processor": byte_level if bos is None else _prepend(tokens[bos], bos),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": splitter.whole_words,
            "vocab": {token: token_id for token_id, token in enumerate(tokens)},
            "merges": [list[Json](pair) for pair in merges],
        },
    }


def _added_token(token_id: int, content: str, kind: int) -> dict[str, Json]:
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": kind == _CONTROL,
    }


def _prepend(token: str, token_id: int) -> dict[str, Json]:
    """The post-processor that begins every text with one token."""
    special: Json = {"SpecialToken": {"id": token, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [special, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [special, {"Sequence": {"id": "A", "type_id": 0}}, special, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }
