"""The Homebrew formula is what its script makes of the lock, and its service runs `omlx serve` with no arguments."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMULA = ROOT / "packaging" / "homebrew" / "omlx.rb"
SCRIPT = runpy.run_path(str(FORMULA.with_name("make_formula.py")))


def blocks(text: str) -> dict[str, list[str]]:
    """The lines of each block of the formula by its head, comments left out. Raises where an `end` is off."""
    found: dict[str, list[str]] = {}
    open_heads: list[str] = []
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line == "end":
            open_heads.pop()
        elif re.match(r"(class|def) ", line) or line.endswith(" do"):
            open_heads.append(line)
            found[line] = []
        else:
            found[open_heads[-1]].append(line)
    assert open_heads == []
    return found


def test_the_formula_is_what_the_script_makes_of_the_lock():
    assert FORMULA.read_text() == SCRIPT["formula"](SCRIPT["NO_ARCHIVE"], SCRIPT["NO_HASH"]), (
        "run python packaging/homebrew/make_formula.py"
    )
    lock = hashlib.sha256((ROOT / "requirements" / "runtime.txt").read_bytes()).hexdigest()
    assert f'LOCK_SHA256 = "{lock}".freeze' in FORMULA.read_text()


def test_a_release_names_its_archive():
    text = SCRIPT["formula"]("https://example.org/omlx-1.tar.gz", "ab" * 32)
    assert 'url "https://example.org/omlx-1.tar.gz"' in text
    assert f'sha256 "{"ab" * 32}"' in text


def test_the_service_runs_serve_with_no_arguments_and_again_after_a_crash():
    service = blocks(FORMULA.read_text())["service do"]
    assert 'run [opt_bin/"omlx", "serve"]' in service
    assert "keep_alive successful_exit: false" in service
    assert 'log_path var/"log/omlx.log"' in service


def test_every_package_is_held_to_its_hash():
    install = blocks(FORMULA.read_text())["def install"]
    assert 'system(*pip, "--require-hashes", "--requirement", LOCK)' in install
    assert any("LOCK_SHA256" in line for line in install)


@pytest.mark.skipif(shutil.which("ruby") is None, reason="no ruby here (Debian: apt install ruby)")
def test_ruby_parses_the_formula():
    parsed = subprocess.run(["ruby", "-c", str(FORMULA)], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
