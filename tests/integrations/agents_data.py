"""templates/admin/agents.json, made from the folder; `make agent-pages` writes it.

The server's pages show it, and its log goes by it, since the server knows no agents itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from omlx.integrations import find, names
from omlx.integrations.spec import Edit, Integration, Model, RunFile, Surroundings, Target

FILE = Path(str(files("omlx.templates").joinpath("admin", "agents.json")))
_MODEL = Model("MODEL", 131_072, 32_768, loaded=True)
_TARGET = Target("http://SERVER", _MODEL, _MODEL, _MODEL, _MODEL, (_MODEL,), "")
_HOME = Path("~")
_LONGEST = 240
_DIGEST = re.compile(r"/[0-9a-f]{12}/")
"""The folder of a single run's files, which goes by what is in them."""


def agents_json() -> str:
    agents = [_described(found) for name in names() if (found := find(name)) is not None]
    return json.dumps(agents, indent=1, ensure_ascii=False) + "\n"


def _described(agent: Integration) -> Mapping[str, object]:
    return {
        "name": agent.name,
        "title": agent.title,
        "command": f"omlx {'launch' if agent.wire else 'wire'} {agent.name}",
        "install": agent.install,
        "minimum_context": agent.minimum_context,
        "summary": agent.summary,
        "sets": [_DIGEST.sub("/RUN/", line) for line in _sets(agent)],
        "user_agents": agent.user_agents,
    }


def _sets(agent: Integration) -> Iterator[str]:
    """What the agent is given, as a reader of shells and settings files writes it."""
    environ = {"OMLX_API_KEY": "KEY"}
    surroundings = Surroundings(
        environ, _HOME, Path("."), _HOME / ".omlx" / "launches", (), lambda _: None, lambda *_: ()
    )
    if agent.wire is not None:
        wiring = agent.wire(_TARGET, surroundings)
        yield from (f"{name}={_cut(value)}" for name, value in wiring.environment.items())
        if wiring.arguments:
            yield " ".join([agent.executable, *map(_cut, wiring.arguments)])
        given = " ".join((*wiring.arguments, *wiring.environment.values()))
        yield from (str(file.path) for file in wiring.files if str(file.path) not in given)
    elif agent.edits is not None:
        for edit in agent.edits(_TARGET, surroundings):
            yield f"{edit.path}:"
            if isinstance(edit, Edit):
                yield from (f"  {'.'.join(map(str, path))} = {_cut(json.dumps(value))}" for path, value in edit.values)
            else:
                assert isinstance(edit, RunFile)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
