"""A recorded session: the bodies of its requests, each written as what it changes in the one before.

A line of the file is one request: `body` holds the fields that are new or changed, `gone` those that are not sent any
more, and `kept` how many leading items a changed list shares with the list before. `answer` is what the model wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recordings"


@dataclass(frozen=True, slots=True)
class Turn:
    """One request as its agent sent it, and what the model wrote."""

    path: str
    body: dict[str, Any]
    answer: str


def write_recording(path: Path, turns: list[Turn]) -> None:
    lines: list[str] = []
    before: dict[str, Any] = {}
    for turn in turns:
        lines.append(json.dumps(_change(before, turn), ensure_ascii=False))
        before = turn.body
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_recording(path: Path) -> list[Turn]:
    turns: list[Turn] = []
    body: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        change = json.loads(line)
        kept = {name: body[name][:count] for name, count in change["kept"].items()}
        new = {name: kept.get(name, []) + value if name in kept else value for name, value in change["body"].items()}
        body = {name: value for name, value in {**body, **new}.items() if name not in change["gone"]}
        turns.append(Turn(change["path"], body, change["answer"]))
    return turns


def _change(before: dict[str, Any], turn: Turn) -> dict[str, Any]:
    body, kept = {}, {}
    for name, value in turn.body.items():
        if name in before and before[name] == value:
            continue
        if isinstance(value, list) and isinstance(before.get(name), list):
            pairs = zip(before[name], value, strict=False)
            kept[name] = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        body[name] = value[kept.get(name, 0) :] if name in kept else value
    gone = sorted(before.keys() - turn.body.keys())
    return {"path": turn.path, "kept": kept, "gone": gone, "body": body, "answer": turn.answer}
