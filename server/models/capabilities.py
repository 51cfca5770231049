"""What the API process needs to know of a model folder, read without MLX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import msgspec

from ..errors import CorruptModel, UnsupportedModel
from ..requests import Json, SamplingParams
from .folder import context_window, read_config, read_file, read_json_object, regular_size, text_config

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_DEFAULT, _TOOL_USE = "default", "tool_use"
_MODEL_TYPE = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """A model folder as the prompt and the sampler see it.

    `chat_template` is Jinja text, `tool_template` the one meant for requests with tools where the model has
    two; None where it has none. `special_tokens` are the variables templates use (`bos_token`, …).
    `stop_token_ids` end the model's turn. `sampling` holds the model's own defaults, unset where it has none.
    """

    tokenizer_path: Path
    context_window: int
    stop_token_ids: tuple[int, ...]
    chat_template: str | None = field(default=None, repr=False)
    tool_template: str | None = field(default=None, repr=False)
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    sampling: SamplingParams = field(default_factory=SamplingParams)


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    """The part of tokenizer.json read here; the rest, most of its megabytes, is skipped over."""

    added_tokens: list[_AddedToken] = []


def read_capabilities(folder: Path) -> ModelCapabilities:
    """Read a model folder. Raises `CorruptModel` or `UnsupportedModel` with the file and the fact."""
    config = read_config(folder)
    tokenizer_config = read_json_object(folder / "tokenizer_config.json")
    generation = read_json_object(folder / "generation_config.json")
    tokenizer_path = folder / "tokenizer.json"
    special_tokens = _special_tokens(tokenizer_config)
    token_ids = _added_tokens(tokenizer_path)
    templates = _chat_templates(folder, tokenizer_config)
    stops = [
        *_ids(generation.get("eos_token_id")),
        *_ids(config.get("eos_token_id")),
        *_ids(text_config(config).get("eos_token_id")),
        *_ids(token_ids.get(special_tokens.get("eos_token", ""))),
    ]
    return ModelCapabilities(
        tokenizer_path=tokenizer_path,
        context_window=context_window(config),
        stop_token_ids=tuple(dict.fromkeys(stops)),
        chat_template=templates.get(_DEFAULT),
        tool_template=templates.get(_TOOL_USE),
        special_tokens=special_tokens,
        sampling=_sampling(folder / "generation_config.json", generation),
    )


def read_chat_template(folder: Path) -> str | None:
    """The chat template alone, the one for tools where there are two; much cheaper than all capabilities.

    Raises `CorruptModel`.
    """
    templates = _chat_templates(folder, read_json_object(folder / "tokenizer_config.json"))
    return templates.get(_TOOL_USE) or templates.get(_DEFAULT)


def _added_tokens(path: Path) -> dict[str, int]:
    try:
        regular_size(path)
        parsed = msgspec.json.decode(path.read_bytes(), type=_TokenizerFile)
    except FileNotFoundError:
        raise UnsupportedModel(f"{path.parent}: has no tokenizer.json, the one tokenizer format omlx reads") from None
    except OSError as error:
        raise CorruptModel(f"{path}: cannot be read ({error.strerror or error})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptModel(f"{path}: not a tokenizer file ({error})") from error
    return {token.content: token.id for token in parsed.added_tokens}


def _special_tokens(tokenizer_config: Mapping[str, Json]) -> dict[str, str]:
    """The named special tokens, written plainly or as an object with `content`."""
    found: dict[str, str] = {}
    for name in _TOKEN_NAMES:
        value = tokenizer_config.get(name)
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def _chat_templates(folder: Path, tokenizer_config: Mapping[str, Json]) -> dict[str, str]:
    """Templates by name. A chat_template.jinja is newer than the tokenizer's config and wins."""
    found: dict[str, str] = {}
    value = tokenizer_config.get("chat_template")
    if not value:
        value = read_json_object(folder / "chat_template.json").get("chat_template")
    if isinstance(value, str):
        found[_DEFAULT] = value
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                found[str(item.get("name"))] = str(item.get("template"))
    try:
        found[_DEFAULT] = read_file(folder / "chat_template.jinja").decode()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptModel(f"{folder / 'chat_template.jinja'}: cannot be read ({error})") from error
    return found or _templates_of_ours(folder)


def _templates_of_ours(folder: Path) -> dict[str, str]:
    """The template omlx has for an architecture whose makers publish rules for the prompt instead of one."""
    config = read_json_object(folder / "config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        return {}
    template = files("omlx.templates").joinpath("architectures", f"{model_type}.jinja")
    if not template.is_file():
        return {}
    is_0731 = any(key.startswith("dspark_") for key in config)  # DeepSeek V4's last release alone has that drafter
    return {_DEFAULT: "{%- set is_0731 = true -%}" * is_0731 + template.read_text(encoding="utf-8")}


def _ids(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if type(item) is int and item >= 0]


def _sampling(path: Path, generation: Mapping[str, Json]) -> SamplingParams:
    if generation.get("do_sample") is False:
        return SamplingParams(temperature=0.0)
    return SamplingParams(
        temperature=_number(path, generation, "temperature", 0.0, 100.0),
        top_p=_number(path, generation, "top_p", 0.0, 1.0),
        top_k=_count(path, generation, "top_k"),
        min_p=_number(path, generation, "min_p", 0.0, 1.0),
        repetition_penalty=_number(path, generation, "repetition_penalty", 0.01, 100.0),
    )


def _number(path: Path, source: Mapping[str, Json], key: str, low: float, high: float) -> float | None:
    value = source.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise CorruptModel(f"{path}: {key} is {value!r}, which is no number from {low} to {high}")
    return float(value)


def _count(path: Path, source: Mapping[str, Json], key: str) -> int | None:
    value = _number(path, source, key, 0, 1 << 31)
    return None if value is None else int(value)
