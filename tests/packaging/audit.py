"""Looks every locked package up in a database of published vulnerabilities: `python -m tests.packaging.audit`.

That is what pip installs, what npm installs for the tests (the agents above all), and the scripts of the admin pages.
Exits with 1 where one is known, with 2 where the looking up itself did not work. The database says nothing of a
package that it has never heard of, so each question holds a package with known vulnerabilities: an answer that finds
nothing wrong with that one is no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from .locked import LOCKS, npm_pins, pins, vendored

DATABASE = "https://api.osv.dev"


class Package(NamedTuple):
    """`ecosystem` is the registry, as the database calls it."""

    ecosystem: str
    name: str
    version: str


KNOWN_BAD = (Package("PyPI", "jinja2", "2.4.1"), Package("npm", "lodash", "4.17.11"))
_AT_ONCE = 200
_PATIENCE_S = 30


class LookUpFailed(Exception):
    """The database could not be asked, or what it answered cannot be believed."""


def locked_packages() -> list[Package]:
    """Everything that a lock, or the admin pages' folder, holds."""
    python = {Package("PyPI", *pin) for lock in LOCKS for pin in pins(lock)}
    return sorted(python | {Package("npm", *pin) for pin in (*npm_pins(), *vendored())})


def audit(packages: Sequence[Package], database: str = DATABASE) -> dict[Package, list[str]]:
    """The published vulnerabilities of each package that has some. Raises `LookUpFailed`."""
    found: dict[Package, list[str]] = {}
    for start in range(0, len(packages), _AT_ONCE):
        some = packages[start : start + _AT_ONCE]
        asked = [*some, *KNOWN_BAD]
        answers = _ask(database, asked)
        if len(answers) != len(asked):
            raise LookUpFailed(f"{len(asked)} packages were asked for, and {len(answers)} answered")
        for package, ids in zip(KNOWN_BAD, answers[len(some) :], strict=True):
            if not ids:
                raise LookUpFailed(
                    f"the database knows nothing of {' '.join(package)}, which has known vulnerabilities"
                )
        found |= {package: ids for package, ids in zip(some, answers, strict=False) if ids}
    return found


def _ask(database: str, packages: Sequence[Package]) -> list[list[str]]:
    queries = [
        {"package": {"name": name, "ecosystem": ecosystem}, "version": version} for ecosystem, name, version in packages
    ]
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
    locked = locked_packages()
    try:
        found = audit(locked, database)
    except LookUpFailed as error:
        print(f"The locks were NOT audited: {database} could not be asked: {error}", file=sys.stderr)
        return 2
    for package, ids in found.items():
        print(f"{' '.join(package)}: {', '.join(ids)}")
    print(f"{len(locked)} locked packages looked up, {len(found)} with published vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
