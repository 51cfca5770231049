"""What the API process reads of a model folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from omlx.server.errors import CorruptModel, UnsupportedModel
from omlx.server.models.capabilities import read_capabilities, read_chat_template
from omlx.server.requests import SamplingParams

CONFIG = {"model_type": "llama", "max_position_embeddings": 4096}
TOKENIZER = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 7, "content": "<|im_end|>", "special": True}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "config.json", CONFIG)
    write(tmp_path, "tokenizer.json", TOKENIZER)
    return tmp_path


def write(folder: Path, name: str, document: Any) -> None:
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))


def test_a_bare_folder_has_few_capabilities(folder: Path) -> None:
    found = read_capabilities(folder)
    assert found.tokenizer_path == folder / "tokenizer.json"
    assert found.context_window == 4096
    assert found.stop_token_ids == ()
    assert found.chat_template is found.tool_template is None
    assert found.sampling == SamplingParams()


def test_stop_tokens_come_from_every_file_once(folder: Path) -> None:
    write(folder, "config.json", CONFIG | {"eos_token_id": 2, "text_config": {"eos_token_id": [2, 3]}})
    write(folder, "generation_config.json", {"eos_token_id": [9, 2]})
    write(folder, "tokenizer_config.json", {"eos_token": {"content": "<|im_end|>"}})
    assert read_capabilities(folder).stop_token_ids == (9, 2, 3, 7)


def test_special_tokens_are_plain_or_objects(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None})
    assert read_capabilities(folder).special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_the_template_file_wins_over_the_tokenizers_config(folder: Path) -> None:
    write(folder, "tokenizer_config.json", {"chat_template": "old"})
    assert read_capabilities(folder).chat_template == "old"
    write(folder, "chat_template.jinja", "new")
    assert read_capabilities(folder).chat_template == "new"


def test_named_templates_are_told_apart(folder: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    write(folder, "tokenizer_config.json", {"chat_template": named})
    found = read_capabilities(folder)
    assert (found.chat_template, found.tool_template) == ("plain", "tools")


def test_a_processors_template_is_the_last_resort(folder: Path) -> None:
    write(folder, "chat_template.json", {"chat_template": "from the processor"})
    assert read_capabilities(folder).chat_template == "from the processor"


def test_the_models_own_sampling_is_taken(folder: Path) -> None:
    values = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.1}
    write(folder, "generation_config.json", values)
    expected = SamplingParams(temperature=0.6, top_p=0.95, top_k=20, repetition_penalty=1.1)
    assert read_capabilities(folder).sampling == expected


def test_a_model_that_asks_not_to_be_sampled_is_greedy(folder: Path) -> None:
    write(folder, "generation_config.json", {"do_sample": False, "temperature": 0.6})
    assert read_capabilities(folder).sampling == SamplingParams(temperature=0.0)


@pytest.mark.parametrize("values", [{"temperature": "hot"}, {"top_p": 1.5}, {"top_k": -1}, {"temperature": True}])
def test_sampling_that_makes_no_sense_is_named(folder: Path, values: dict[str, Any]) -> None:
    write(folder, "generation_config.json", values)
    with pytest.raises(CorruptModel, match=next(iter(values))):
        read_capabilities(folder)


def test_no_tokenizer_is_unsupported(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        read_capabilities(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"added_tokens": 3}', "\x00"])
def test_a_damaged_tokenizer_is_named(folder: Path, text: str) -> None:
    write(folder, "tokenizer.json", text)
    with pytest.raises(CorruptModel, match=r"tokenizer\.json"):
        read_capabilities(folder)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"max_position_embeddings": 100}, 100),
        ({"max_position_embeddings": 100, "text_config": {"max_position_embeddings": 200}}, 200),
        ({"n_positions": 300}, 300),
        ({"max_position_embeddings": "many"}, 8192),
        ({}, 8192),
    ],
)
def test_the_window_is_the_language_models(folder: Path, config: dict[str, Any], window: int) -> None:
    write(folder, "config.json", {"model_type": "x", **config})
    assert read_capabilities(folder).context_window == window


def test_the_template_alone_is_the_one_for_tools_and_needs_no_tokenizer(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) is None
    templates = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": templates})
    assert read_chat_template(tmp_path) == "tools"
    write(tmp_path, "tokenizer_config.json", {"chat_template": templates[:1]})
    assert read_chat_template(tmp_path) == "plain"


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_that_never_ends_is_refused_and_not_waited_for(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    with pytest.raises(CorruptModel, match=f"{name}: is a pipe, a device or a socket"):
        read_capabilities(folder)
