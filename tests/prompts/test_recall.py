"""A turn that comes back as less than it was is rendered as it was."""

from __future__ import annotations

import pytest

from omlx.server.events import ReasoningDelta, TextDelta, ToolCallDelta
from omlx.server.prompts.recall import AnswerMemory, parts_of
from omlx.server.requests import GenerationRequest, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult

USER = Message(Role.USER, (Text("Do it."),))
SYSTEM = Message(Role.SYSTEM, (Text("Be kind."),))
THOUGHT, WORDS = Reasoning("\nLet me think.\n"), Text("\n\nI will.\n\n")
CALL = ToolCall("call_1", "run", '{"command": "echo hi"}')
SAME_CALL = ToolCall("call1", "run", '{"command":"echo hi"}')
RESULT = Message(Role.TOOL, (ToolResult("call1", (Text("hi"),)),))
ANSWER: tuple[Part, ...] = (THOUGHT, WORDS, CALL)


def asked(*messages: Message) -> GenerationRequest:
    return GenerationRequest("r", "m", messages)


def said(*parts: Part) -> Message:
    return Message(Role.ASSISTANT, parts)


@pytest.fixture
def memory() -> AnswerMemory:
    """It remembers one answer to "Do it."."""
    memory = AnswerMemory()
    memory.remember(memory.recall(asked(SYSTEM, USER), "m").place, ANSWER)
    return memory


def restored(memory: AnswerMemory, *messages: Message, scope: str = "m") -> tuple[Message, ...]:
    return memory.recall(asked(*messages), scope).request.messages


@pytest.mark.parametrize(
    "turn",
    [
        [said(Text("I will."), SAME_CALL)],
        [said(Reasoning("Let me think."), WORDS, SAME_CALL)],
        [said(Reasoning("Let me think.")), said(Text("I will.")), said(SAME_CALL)],
        [said(Text("\n\nI "), Text("will.\n\n"), SAME_CALL)],
    ],
    ids=["dropped and trimmed", "thinking trimmed", "a message a part", "text in pieces"],
)
def test_what_a_client_changed_is_put_back(memory: AnswerMemory, turn: list[Message]):
    expected = (SYSTEM, USER, said(THOUGHT, WORDS, SAME_CALL), RESULT)

    assert restored(memory, SYSTEM, USER, *turn, RESULT) == expected


def test_a_later_turn_finds_its_answer_whether_or_not_the_first_came_whole(memory: AnswerMemory):
    place = memory.recall(asked(SYSTEM, USER, said(*ANSWER), RESULT), "m").place
    memory.remember(place, (Reasoning("More."), Text("Done.")))
    messages = restored(memory, SYSTEM, USER, said(Text("I will."), SAME_CALL), RESULT, said(Text("Done.")), USER)

    assert messages[4] == said(Reasoning("More."), Text("Done."))


@pytest.mark.parametrize(
    "messages",
    [
        [Message(Role.USER, (Text("Do that."),)), said(Text("I will."), SAME_CALL), RESULT],
        [USER, said(Text("I won't."), SAME_CALL), RESULT],
        [USER, said(Text("I will."), ToolCall("call1", "run", '{"command": "echo ho"}')), RESULT],
        [USER, said(Reasoning("Something else."), Text("I will."), SAME_CALL), RESULT],
        [USER, USER, said(Text("I will."), SAME_CALL), RESULT],
    ],
    ids=["another question", "another text", "another call", "other thinking", "said twice"],
)
def test_what_the_client_says_otherwise_stays(memory: AnswerMemory, messages: list[Message]):
    assert restored(memory, *messages) == tuple(messages)


def test_another_scope_has_its_own_memory(memory: AnswerMemory):
    turn = (USER, said(Text("I will."), SAME_CALL), RESULT)

    assert restored(memory, *turn, scope="other") == turn


def test_the_oldest_answers_are_forgotten():
    memory = AnswerMemory(max_characters=30_000)
    for question in "abc":
        place = memory.recall(asked(Message(Role.USER, (Text(question),))), "m").place
        memory.remember(place, (Reasoning("x" * 14_000), Text("y")))

    def thinks(question: str) -> bool:
        turn = restored(memory, Message(Role.USER, (Text(question),)), said(Text("y")), USER)
        return isinstance(turn[1].parts[0], Reasoning)

    assert [thinks(question) for question in "abc"] == [False, True, True]


def test_the_calls_of_an_answer_take_room_too():
    memory = AnswerMemory(max_characters=30_000)
    for question in "abc":
        place = memory.recall(asked(Message(Role.USER, (Text(question),))), "m").place
        memory.remember(place, (Reasoning("x"), ToolCall("id", "write", f'{{"text": "{"y" * 14_000}"}}')))
    assert len(memory._answers) == 2


def test_an_answer_is_put_together_from_its_pieces():
    deltas = [
        ReasoningDelta("\nLet me "),
        ReasoningDelta("think.\n"),
        TextDelta("\n\nI will."),
        TextDelta("\n\n"),
        ToolCallDelta(0, "call_1", "run"),
        ToolCallDelta(0, arguments='{"command": '),
        ToolCallDelta(0, arguments='"echo hi"}'),
    ]
    assert tuple(parts_of(deltas)) == ANSWER
