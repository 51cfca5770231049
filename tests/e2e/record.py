"""Records the agents' sessions for tests/replay: `python -m tests.e2e.record [SESSION…]`.

Each session is at least two launches, each of which goes on with the conversation of the one before. Claude Code looks
tools up on the way, and in a session of its own it tells of hooks, agents, plan mode and output styles in system
messages; Codex compacts its history, in a session of its own in the middle of a turn. What is kept: the bodies of the
requests that belong to the conversation, without this machine's paths, without ids, and with other words in the place
of the agents' own.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from ..replay.recording import FOLDER, Turn, write_recording
from ..replay.rewording import Rewording, common_words
from .agent_cases import CASES, PROMPT, PROMPT_AGAIN, AgentCase
from .harness import COMMANDS, Bench, Outcome, make_bench
from .talking_server import ASIDE, KEY

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PATH_AS_NAME = re.compile(r"-tmp-record-[\w-]+-work")
_COMPACTS_AT = ("-c", "model_auto_compact_token_limit=23150")
_PAGES = Path(__file__).parents[2] / "docs"
"""Stand for the text for agents that a project has: it makes a prompt as long as prompts are."""
_REMINDER = {"hookEventName": "PostToolUse", "additionalContext": "the linter is content"}
_HOOKS = {
    "PostToolUse": [
        {"hooks": [{"type": "command", "command": f"echo '{json.dumps({'hookSpecificOutput': _REMINDER})}'"}]}
    ],
    "UserPromptSubmit": [{"hooks": [{"type": "command", "command": "echo the branch is main"}]}],
}
_TOOL_SEARCH = '<tool_call>\n{"name": "ToolSearch", "arguments": {"query": "select:CronList"}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class Session:
    """`launches` are command lines with their prompts, `answers` the model's in order; `guide` is a text for agents in
    the project."""

    name: str
    case: AgentCase
    launches: Sequence[tuple[tuple[str, ...], str]]
    answers: Sequence[str]
    guide: str = ""


def sessions() -> Iterator[Session]:
    guide, long_guide = _pages("http"), _pages("http", "cli", "agents")
    mid_turn = f"model_auto_compact_token_limit={22_900 + len(guide)}"  # tokens, which are bytes here
    for case in CASES:
        again = case.again
        answers = case.answers()
        if case.name == "claude":
            yield reminded(case)
            answers.insert(1, _TOOL_SEARCH)
        if case.name == "codex":
            again = (again[0], *_COMPACTS_AT, *again[1:])
            first = (case.first[0], "-c", mid_turn, *case.first[1:])
            yield Session("codex_midturn", case, [(first, PROMPT), (case.again, PROMPT_AGAIN)], answers, guide)
        launches = [(case.first, PROMPT), (again, PROMPT_AGAIN)]
        yield Session(case.name, case, launches, answers, long_guide if case.name == "qwen" else "")


def _pages(*names: str) -> str:
    return "\n".join((_PAGES / f"{name}.md").read_text() for name in names)


def reminded(case: AgentCase) -> Session:
    """Claude Code, each launch with something else that it tells the model in a system message."""
    hooks = ("--settings", json.dumps({"hooks": _HOOKS}))
    agents = ("--agents", json.dumps({"reviewer": {"description": "Reviews code", "prompt": "You review."}}))
    launches = [
        ((*case.first, *hooks), PROMPT),
        ((*case.again, *hooks, *agents), PROMPT_AGAIN),
        ((*case.again, "--permission-mode", "plan"), "How would you go on?"),
        ((*case.again, "--settings", json.dumps({"outputStyle": "Explanatory"})), "Go on."),
        ((*case.again, "--disallowedTools", "WebFetch"), "What is left?"),
    ]
    return Session("claude_reminders", case, launches, [*case.answers(), "With a test.", "I go on.", "Nothing is."])


def play(session: Session, folder: Path) -> tuple[Bench, Outcome]:
    case = session.case
    bench = make_bench(folder, case.name, {"OMLX_API_KEY": KEY, **case.environment})
    case.lay_out(bench)
    if session.guide:
        (bench.work / "AGENTS.md").write_text(session.guide)
    script = folder / "answers.json"
    script.write_text(json.dumps(session.answers))
    serve = [sys.executable, "-m", "tests.e2e.talking_server", str(script)]
    launches = [case.launch(arguments, prompt) for arguments, prompt in session.launches]
    return bench, bench.run(serve, *launches, seconds=case.seconds)


def cleaned(text: str, bench: Bench) -> str:
    """Without this machine's paths, and with ids numbered in the order in which they appear."""
    paths = {
        str(bench.work): "/home/user/project",
        str(bench.home): "/home/user",
        str(bench.folder): "/home/user/run",
        str(COMMANDS.resolve()): "/opt/agents/bin",
        str(COMMANDS.parents[2].resolve()): "/opt/omlx",
        sys.prefix: "/opt/python",
        platform.release(): "6.1.0",
        platform.node(): "machine",
    }
    for path, name in paths.items():
        text = text.replace(path, name)
    text = _PATH_AS_NAME.sub("-home-user-project", text)
    numbers: dict[str, int] = {}
    return _UUID.sub(lambda found: f"00000000-0000-4000-8000-{numbers.setdefault(found[0], len(numbers)):012}", text)


def answered(bodies: list[dict[str, Any]], session: Session) -> list[Turn]:
    """Each request with the answer it got: in the script's order, of which only the last is left after a summary."""
    turns: list[Turn] = []
    answers: Iterator[str] = iter(session.answers)
    for body in bodies:
        turns.append(Turn(session.case.path, body, next(answers) if body["tools"] else ASIDE))
        if not body["tools"]:
            answers = repeat(session.answers[-1])
    return turns


def record(session: Session) -> None:
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        bench, outcome = play(session, Path(folder))
        if any(run.exit_code for run in outcome.runs):
            sys.exit(str(outcome))
        bodies = cleaned("\n".join(each.request for each in outcome.posts(session.case.path)), bench).splitlines()
    turns = answered([body for body in map(json.loads, bodies) if "tools" in body], session)
    rewording = Rewording(common_words())
    path = FOLDER / f"{session.name}.jsonl"
    write_recording(path, [rewording.turn(turn) for turn in turns])
    print(f"{session.name}: {len(turns)} requests, {path.stat().st_size // 1024} KB", flush=True)


def main() -> None:
    for session in sessions():
        if not sys.argv[1:] or session.name in sys.argv[1:]:
            record(session)


if __name__ == "__main__":
    main()
