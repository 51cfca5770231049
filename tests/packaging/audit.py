"""Looks every locked package up in a database of published vulnerabilities: `python -m tests.packaging.audit`.

Exits with 1 where one is known, with 2 where the looking up itself did not work. The database says nothing of a
package that it has never heard of, so each question holds a package with known vulnerabilities: an answer that finds
nothing wrong with that one is no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from .locked import LOCKS, pins

DATABASE = "https://api.osv.dev"
KNOWN_BAD = ("jinja2", "2.4.1")
_AT_ONCE = 200
_PATIENCE_S = 30


class LookUpFailed(Exception):
    """The database could not be asked, or what it answered cannot be believed."""


def audit(packages: Sequence[tuple[str, str]], database: str = DATABASE) -> dict[tuple[str, str], list[str]]:
    """The published vulnerabilities of each package that has some. Raises `LookUpFailed`."""
    found: dict[tuple[str, str], list[str]] = {}
    for start in range(0, len(packages), _AT_ONCE):
        some = packages[start : start + _AT_ONCE]
        asked = [*some, KNOWN_BAD]
        answers = _ask(database, asked)
        if len(answers) != len(asked):
            raise LookUpFailed(f"{len(asked)} packages were asked for, and {len(answers)} answered")
        if not answers[-1]:
            raise LookUpFailed(f"the database knows nothing of {' '.join(KNOWN_BAD)}, which has known vulnerabilities")
        found |= {package: ids for package, ids in zip(some, answers[:-1], strict=True) if ids}
    return found


def _ask(database: str, packages: Sequence[tuple[str, str]]) -> list[list[str]]:
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in packages]
    body = json.dumps({"queries": queries}).encode()
    request = Request(f"{database}/v1/querybatch", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=_PATIENCE_S) as response:
            results: Sequence[Mapping[str, Any]] = json.load(response)["results"]
        return [[str(each["id"]) for each in result.get("vulns", [])] for result in results]
    except (URLError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LookUpFailed(f"{type(error).__name__}: {error}") from error


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--database", default=DATABASE, help="its address (default: %(default)s)")
    database: str = arguments.parse_args().database
    locked = {pin for lock in LOCKS for pin in pins(lock)}
    try:
        found = audit(sorted(locked), database)
    except LookUpFailed as error:
        print(f"The locks were NOT audited: {database} could not be asked: {error}", file=sys.stderr)
        return 2
    for (name, version), ids in found.items():
        print(f"{name} {version}: {', '.join(ids)}")
    print(f"{len(locked)} locked packages looked up, {len(found)} with published vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
