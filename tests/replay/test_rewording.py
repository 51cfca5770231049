"""Recordings keep the shape of what agents send, and none of its words."""

from __future__ import annotations

import json
import re

import pytest

from .recording import FOLDER, Turn, read_recording
from .rewording import Rewording

VOCABULARY = [f"{letter}{rest}" for letter in "abcdefgh" for rest in ("o", "no", "sk", "ple", "ntic", "rching")]
BODY = {
    "model": "a-model",
    "messages": [
        {"role": "system", "content": "Use the Tool, then <system-reminder>USE the tool</system-reminder> 17 times."},
        {"role": "assistant", "content": "I use the tool.", "tool_calls": [{"id": "call_1"}]},
        {"role": "tool", "content": '{"output": "done\\n", "code": 0}', "tool_call_id": "call_1"},
    ],
    "tools": [{"name": "tool", "description": "Does it.", "parameters": {"properties": {"text": {"type": "string"}}}}],
}


@pytest.fixture
def reworded() -> dict:
    return Rewording(VOCABULARY).turn(Turn("/", BODY, "I use the tool.")).body


def test_words_change_and_lengths_cases_digits_and_tags_stay(reworded: dict):
    before, after = BODY["messages"][0]["content"], reworded["messages"][0]["content"]
    assert len(after) == len(before)
    assert re.sub("[a-z]", "x", re.sub("[A-Z]", "X", after)) == re.sub("[a-z]", "x", re.sub("[A-Z]", "X", before))
    assert "<system-reminder>" in after
    assert after.endswith(" 17 " + after[-6:])
    assert not {"use", "the", "tool", "then", "times"} & set(after.lower().replace("<system-reminder>", "").split())


def test_the_same_word_becomes_the_same_whatever_its_case(reworded: dict):
    words = re.findall(r"[A-Za-z]{2,}", reworded["messages"][0]["content"].replace("system-reminder", ""))
    use, the, tool, _, use_again, the_again, tool_again, _ = words
    assert (use.lower(), the, tool.lower()) == (use_again.lower(), the_again, tool_again)
    assert use_again.isupper()


def test_what_the_model_wrote_names_and_ids_stay(reworded: dict):
    assert reworded["messages"][1] == BODY["messages"][1]
    assert (reworded["model"], reworded["tools"][0]["name"]) == ("a-model", "tool")
    assert reworded["tools"][0]["parameters"] == BODY["tools"][0]["parameters"]
    assert reworded["tools"][0]["description"] != "Does it."


def test_json_in_a_text_stays_json(reworded: dict):
    result = json.loads(reworded["messages"][2]["content"])
    assert list(result.values())[-1] == 0
    assert next(iter(result.values())).endswith("\n")


def test_another_run_draws_other_words():
    text = "Search the artic gentic notes, then open them."
    assert len({Rewording(VOCABULARY, bytes([key])).text(text) for key in range(8)}) > 1


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_no_recording_holds_a_sentence_of_its_agent(path):
    bodies = json.dumps([turn.body for turn in read_recording(path)]).lower()
    for phrase in ("you are", "the user", "do not", "you must", "working directory", "https://docs"):
        assert phrase not in bodies
