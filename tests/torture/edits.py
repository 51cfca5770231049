"""Random edits of random settings files, judged without the code under test.

    python -m tests.torture.edits --json 20000 --yaml 5000 --toml 5000

Each file is made here, so its meaning and places are known. After an edit, an independent parser must read exactly the
old values with the one change; every comment outside the entry must be there; every line outside it must be the same.
Where npm's `json5` is installed (`python -m tests.torture.install`), that parser judges JSON, JSONC and JSON5 too.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tomlkit
import yaml
from ruamel.yaml import YAML

from omlx.launcher.documents import Delete, Dialect, Set, edit, read
from omlx.launcher.errors import LauncherError

from ..e2e.install_agents import find_node
from . import write_json, write_toml, write_yaml
from .install import CACHE, is_installed
from .written import NAMES, Path, Written, value

COLUMNS = ("edits", "refused", "wrong values", "lost comments", "changed lines", "not undone")
EDITS_A_FILE = 4


@dataclass(frozen=True)
class Case:
    """One edit: `model` is what the file must mean afterwards, `path` the entry that may change."""

    written: Written
    change: Set | Delete
    path: Path
    model: Any


def cases(dialect: Dialect, seed: int) -> Iterator[Case]:
    write = {"yaml": write_yaml.write, "toml": write_toml.write}.get(dialect, write_json.write)
    for number in range(sys.maxsize):
        chance = random.Random(f"{dialect} {seed} {number}")
        written = write(chance, dialect)
        for _ in range(EDITS_A_FILE):
            yield random_case(chance, written)


def random_case(chance: random.Random, written: Written) -> Case:
    paths = list(_paths(written.model))
    kind = chance.random()
    if kind < 0.35 and paths:
        path = chance.choice(paths)
        new = _new_value(chance, written, path)
        return Case(written, Set(path, new), path, _with(written.model, path, new))
    if kind < 0.6 and paths:
        path = chance.choice(paths)
        return Case(written, Delete(path), path, _without(written.model, path))
    parents = [path for path in [(), *paths] if isinstance(_at(written.model, path), dict | list)]
    parent = chance.choice(parents)
    holder = _at(written.model, parent)
    new = value(chance, written.dialect, depth=1)
    if isinstance(holder, list):
        path = (*parent, len(holder))
        new = _new_value(chance, written, path)
        return Case(written, Set(path, new), path, _with(written.model, path, new))
    name = chance.choice([name for name in NAMES if name not in holder])
    if chance.random() < 0.3:
        return Case(written, Set((*parent, name, "deep", "er"), new), (*parent, name), _with(
            written.model, (*parent, name), {"deep": {"er": new}}))  # fmt: skip
    return Case(written, Set((*parent, name), new), (*parent, name), _with(written.model, (*parent, name), new))


def _new_value(chance: random.Random, written: Written, path: Path) -> Any:
    """A value for that path; TOML's lists of tables can hold nothing but tables."""
    new = value(chance, written.dialect, depth=1)
    holder = _at(written.model, path[:-1])
    tables = written.dialect == "toml" and isinstance(holder, list) and all(isinstance(item, dict) for item in holder)
    return {"new": new} if tables and holder else new


def _paths(model: Any, path: Path = ()) -> Iterator[Path]:
    for key, item in model.items() if isinstance(model, dict) else enumerate(model):
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from _paths(item, (*path, key))


def _at(model: Any, path: Path) -> Any:
    for key in path:
        model = model[key]
    return model


def _with(model: Any, path: Path, new: Any) -> Any:
    model = copy.deepcopy(model)
    parent: Any = _at(model, path[:-1])
    if isinstance(parent, list) and path[-1] == len(parent):
        parent.append(new)
    else:
        parent[path[-1]] = new  # pyright: ignore[reportCallIssue, reportArgumentType]
    return model


def _without(model: Any, path: Path) -> Any:
    model = copy.deepcopy(model)
    del _at(model, path[:-1])[path[-1]]
    return model


def judge(case: Case) -> tuple[str, str | None]:
    """The verdict ("" for none: all is well) and the new text."""
    dialect: Dialect = case.written.dialect  # pyright: ignore[reportAssignmentType]
    try:
        new = edit(dialect, case.written.text, [case.change])
    except LauncherError as error:
        return f"refused ({error})", None
    for oracle in ORACLES[dialect]:
        if not equal(oracle(new.removeprefix("\ufeff")) or {}, case.model):
            return "wrong values", new
    spans = allowed(case)
    lost = [found.group() for found in re.finditer(r"note\d+~", case.written.text) if not _inside(found.start(), spans)]
    if any(comment not in new for comment in lost):
        return "lost comments", new
    if case.written.text.startswith("\ufeff") != new.startswith("\ufeff") or not lines_kept(case, new, spans):
        return "changed lines", new
    if isinstance(case.change, Set) and len(case.change.path) == len(case.path) and _is_new(case):
        back = edit(dialect, new, [Delete(case.path)])
        if not equal(read(dialect, back), case.written.model):
            return "not undone", new
    return "", new


def _is_new(case: Case) -> bool:
    parent = _at(case.written.model, case.path[:-1])
    return case.path[-1] not in parent if isinstance(parent, dict) else case.path[-1] == len(parent)


def allowed(case: Case) -> list[tuple[int, int]]:
    """The places that may change: the entry's, those of its parts, or where it has no own place its holder's."""
    entries = case.written.entries
    for length in range(len(case.path), 0, -1):
        if case.path[:length] in entries:
            return [entries[case.path[:length]]]
        parts = [place for path, place in entries.items() if path[:length] == case.path[:length]]
        if parts:
            return parts
    return []


def _inside(position: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= position < end for start, end in spans)


def lines_kept(case: Case, new: str, spans: list[tuple[int, int]]) -> bool:
    """Every filled line outside `spans` stands in the new text, in order, byte for byte; commas and one line excepted
    (the one that the entry shares with others, or that gets a comma)."""
    wanted, position = [], 0
    for line in case.written.text.split("\n"):
        end = position + len(line)
        header = case.written.dialect == "toml" and line.startswith("[") and not _is_new(case)
        touched = header or any(start <= end and position <= stop for start, stop in spans)
        if line.strip() and not touched:
            wanted.append(line.rstrip("\r").replace(",", ""))
        position = end + 1
    if "\r\n" in case.written.text and re.search(r"(?<!\r)\n", new):
        return False
    missing = len(wanted) - common_length(wanted, [line.rstrip("\r").replace(",", "") for line in new.split("\n")])
    parent = _at(case.written.model, case.path[:-1])
    brackets_meet = isinstance(case.change, Delete) and len(parent) == 1  # the now empty `{}` stands on one line
    return missing <= 1 + brackets_meet


def common_length(left: list[str], right: list[str]) -> int:
    """How many lines the two have in common in the same order."""
    lengths = [0] * (len(right) + 1)
    for line in left:
        diagonal = 0
        for index, other in enumerate(right, 1):
            above = lengths[index]
            lengths[index] = diagonal + 1 if line == other else max(above, lengths[index - 1])
            diagonal = above
    return lengths[-1]


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and left == right


def _json5(text: str) -> Any:
    return read("json5", text)


def _tomlkit(text: str) -> Any:
    """tomlkit keeps CRLF inside a text of several lines, where tomllib reads LF; TOML allows both."""
    return tomlkit.parse(text.replace("\r\n", "\n")).unwrap()


ORACLES: dict[str, tuple[Callable[[str], Any], ...]] = {
    "json": (json.loads,),
    "jsonc": (_json5,),
    "json5": (_json5,),
    "yaml": (yaml.safe_load, lambda text: YAML(typ="safe", pure=True).load(text)),
    "toml": (tomllib.loads, _tomlkit),
}

_NODE = """
const json5 = require("json5"), lines = require("fs").readFileSync(0, "utf8").split("\\n").filter(Boolean);
const same = (a, b) => typeof a === "number" ? Object.is(a + 0, b + 0) || a === b
  : a && typeof a === "object" ? b && typeof b === "object" && Array.isArray(a) === Array.isArray(b)
    && Object.keys(a).length === Object.keys(b).length && Object.keys(a).every((k) => k in b && same(a[k], b[k]))
  : a === b;
let wrong = 0;
for (const line of lines) { const [text, model] = JSON.parse(line);
  try { if (!same(json5.parse(text), model)) wrong++; } catch (error) { wrong++; } }
console.log(wrong);
"""


def judged_by_node(pairs: list[tuple[str, Any]]) -> int:
    """How many of the texts npm's json5 reads otherwise than as the model."""
    lines = "\n".join(json.dumps(pair) for pair in pairs)
    environ = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
    command = [find_node().program, "-e", _NODE]
    done = subprocess.run(command, input=lines, text=True, capture_output=True, env=environ, check=True)
    return int(done.stdout)


def torture(dialect: Dialect, count: int, seed: int, show: int = 0) -> Counter[str]:
    """The verdicts on `count` edits; the first `show` bad ones are printed."""
    verdicts: Counter[str] = Counter(edits=0)
    pairs: list[tuple[str, Any]] = []
    for case in cases(dialect, seed):
        if verdicts["edits"] == count:
            break
        verdict, new = judge(case)
        verdicts["edits"] += 1
        verdicts[verdict.partition(" (")[0]] += bool(verdict)
        if verdict and sum(verdicts.values()) - verdicts["edits"] <= show:
            print(f"{verdict}\n{case.change}\n{case.written.text}\n-----\n{new}\n=====")
        if new is not None and dialect in ("json", "jsonc", "json5"):
            pairs.append((new, case.model))
    if pairs and is_installed():
        verdicts["wrong values"] += judged_by_node(pairs)
    return verdicts


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", type=int, default=0, help="edits, a third each of JSON, JSONC and JSON5")
    arguments.add_argument("--yaml", type=int, default=0)
    arguments.add_argument("--toml", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--show", type=int, default=0, help="print this many bad cases a dialect")
    wanted = arguments.parse_args()
    third, rest = divmod(wanted.json, 3)
    counts = {"json": third + rest, "jsonc": third, "json5": third, "yaml": wanted.yaml, "toml": wanted.toml}
    if wanted.json and not is_installed():
        print("npm's json5 is not installed, so it judges nothing: python -m tests.torture.install", file=sys.stderr)
    print("dialect  " + "  ".join(COLUMNS))
    bad = 0
    for dialect, count in counts.items():
        if not count:
            continue
        verdicts = torture(dialect, count, wanted.seed, wanted.show)  # pyright: ignore[reportArgumentType]
        print(f"{dialect:7}  " + "  ".join(f"{verdicts[name]:>{len(name)}}" for name in COLUMNS), flush=True)
        bad += sum(verdicts.values()) - verdicts["edits"]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
