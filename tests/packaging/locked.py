"""Every package of the locks with the sentence that justifies it: `python -m tests.packaging.locked`.

A direct dependency has its own line in docs/dependencies.md; any other is named after those that bring it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCKS = ("runtime", "cuda12", "cuda13", "dev", "clients", "embedded", "node")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_WHOLE = {
    "cuda12": "comes with mlx-cuda-12",
    "cuda13": "comes with mlx-cuda-13",
    "clients": "in the environment of the other clients that judge the server (requirements/clients.in)",
    "embedded": "the model that the demo, the benchmark and the tests run on",
    "node": "the Node that runs the agents of the end-to-end tests",
}
"""What the whole of a lock is for, where its packages are in no environment of ours."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> list[tuple[str, str]]:
    """Name and version of each package that a lock holds; platforms may differ in the version."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return [(normal(name), version) for name, version in _PIN.findall(text)]


def npm_locks() -> dict[Path, dict[str, dict[str, Any]]]:
    """The packages of each `package-lock.json` of ours, by the folder they go to."""
    locks = sorted((ROOT / "tests").rglob("package-lock.json"))
    found = {lock: json.loads(lock.read_text())["packages"] for lock in locks if "node_modules" not in lock.parts}
    return {lock: {place: each for place, each in packages.items() if place} for lock, packages in found.items()}


def npm_pins() -> list[tuple[str, str]]:
    """Name and version of each package that npm installs. An alias is named as what it stands for."""
    packages = [(place, each) for lock in npm_locks().values() for place, each in lock.items()]
    return [(each.get("name") or place.rpartition("node_modules/")[2], each["version"]) for place, each in packages]


def vendored() -> list[tuple[str, str]]:
    """The npm packages whose files lie in the admin pages' folder, as docs/dependencies.md names them."""
    page = (ROOT / "docs" / "dependencies.md").read_text()
    return re.findall(r"^\| `[^`]+` \| `([^`]+)` (\d+\.\d+\.\d+)", page, re.MULTILINE)


def sentences(page: str) -> dict[str, str]:
    """What docs/dependencies.md says of each package: the first cell of a row names it, the second says why."""
    found: dict[str, str] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) > 1:
            found |= dict.fromkeys(map(normal, re.findall(r"`([^`]+)`", cells[0])), cells[1])
    return found


def brought_by() -> dict[str, set[str]]:
    """Each package that an installed one asks for, on whatever platform, with those that ask for it."""
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        for requirement in distribution.requires or ():
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            if name:
                found.setdefault(normal(name[0]), set()).add(normal(distribution.name))
    return found


def reasons(lock: Collection[str], page: Mapping[str, str], bringers: Mapping[str, set[str]]) -> dict[str, str]:
    """The reason of each package of a lock, "" where there is none: nobody in the lock asks for it."""

    def reason(name: str) -> str:
        askers = sorted(bringers.get(name, set()).intersection(lock))
        return page.get(name) or (f"comes with {', '.join(askers)}" if askers else "")

    return {name: reason(name) for name in lock}


def main() -> int:
    page, bringers = sentences((ROOT / "docs" / "dependencies.md").read_text()), brought_by()
    unjustified: list[str] = []
    for lock in LOCKS:
        locked = pins(lock)
        found = reasons(dict(locked), page, bringers)
        print(f"\n{lock}.txt, {len(locked)} packages")
        for name, version in locked:
            reason = found[name] or _WHOLE.get(lock, "")
            print(f"  {name} {version}: {reason or 'NO REASON'}")
            unjustified += [] if reason else [name]
    if unjustified:
        print(f"\nNobody says why these are here: {', '.join(unjustified)}; give each a row in docs/dependencies.md")
    return 1 if unjustified else 0


if __name__ == "__main__":
    sys.exit(main())
