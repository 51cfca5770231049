"""Records the agents' sessions for tests/replay: `python -m tests.e2e.record [AGENT…]`.

Each session is two launches, the second of which goes on with the first one's conversation. Claude Code looks tools
up on the way, and Codex compacts its history; in a session of its own it does so in the middle of a turn. What is kept:
the bodies of the requests that belong to the conversation, without this machine's paths, without ids, and with other
words in the place of the agents' own.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
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
_COMPACTS_MID_TURN = ("-c", "model_auto_compact_token_limit=22900")
_TOOL_SEARCH = '<tool_call>\n{"name": "ToolSearch", "arguments": {"query": "select:CronList"}}\n</tool_call>'


def session(case: AgentCase) -> tuple[AgentCase, list[str]]:
    """The case and the model's answers, with what is special to an agent."""
    answers = case.answers()
    if case.name == "claude":
        return case, [answers[0], _TOOL_SEARCH, *answers[1:]]
    if case.name == "codex" and not set(_COMPACTS_MID_TURN) <= set(case.first):
        return replace(case, again=("exec", *_COMPACTS_AT, *case.again[1:])), answers
    return case, answers


def play(case: AgentCase, folder: Path) -> tuple[Bench, Outcome]:
    bench = make_bench(folder, case.name, {"OMLX_API_KEY": KEY, **case.environment})
    case.lay_out(bench)
    case, answers = session(case)
    script = folder / "answers.json"
    script.write_text(json.dumps(answers))
    serve = [sys.executable, "-m", "tests.e2e.talking_server", str(script)]
    launches = [case.launch(case.first, PROMPT), case.launch(case.again, PROMPT_AGAIN)]
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


def answered(bodies: list[dict[str, Any]], case: AgentCase) -> list[Turn]:
    """Each request with the answer it got: in the script's order, of which only the last is left after a summary."""
    turns: list[Turn] = []
    answers: Iterator[str] = iter(session(case)[1])
    for body in bodies:
        turns.append(Turn(case.path, body, next(answers) if body["tools"] else ASIDE))
        if not body["tools"]:
            answers = repeat(session(case)[1][-1])
    return turns


def system_messages(last: Turn) -> list[Turn]:
    """Two more turns as Claude Code writes them when something changes while a session runs."""
    told: list[dict[str, Any]] = []
    turns: list[Turn] = []
    answer = last.answer
    for text in ("The date has changed. It is 2026-11-24 now.", "The user has turned plan mode off."):
        told += [
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            {"role": "user", "content": "Go on."},
            {"role": "system", "content": text},
        ]
        answer = "I go on."
        body = {**last.body, "messages": [*last.body["messages"], *told]}
        turns.append(Turn(last.path, body, answer, note="written by hand, not recorded"))
    return turns


def compacting_mid_turn(case: AgentCase) -> AgentCase:
    return replace(case, first=(case.first[0], *_COMPACTS_MID_TURN, *case.first[1:]))


def record(case: AgentCase, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="record-") as folder:
        bench, outcome = play(case, Path(folder))
        if any(run.exit_code for run in outcome.runs):
            sys.exit(str(outcome))
        bodies = cleaned("\n".join(each.request for each in outcome.posts(case.path)), bench).splitlines()
    turns = answered([body for body in map(json.loads, bodies) if "tools" in body], case)
    if case.name == "claude":
        turns += system_messages(turns[-1])
    rewording = Rewording(common_words())
    path = FOLDER / f"{name}.jsonl"
    write_recording(path, [rewording.turn(turn) for turn in turns])
    print(f"{name}: {len(turns)} requests, {path.stat().st_size // 1024} KB", flush=True)


def main() -> None:
    for case in CASES:
        if not sys.argv[1:] or case.name in sys.argv[1:]:
            record(case, case.name)
        if case.name == "codex" and (not sys.argv[1:] or "codex_midturn" in sys.argv[1:]):
            record(compacting_mid_turn(case), "codex_midturn")


if __name__ == "__main__":
    main()
