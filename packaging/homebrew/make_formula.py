"""Writes the Homebrew formula beside this file from pyproject.toml and the lock.

    python packaging/homebrew/make_formula.py [--url URL --sha256 HASH]

A release names its archive with --url and --sha256; without them the formula names none that brew would take. The lock
travels in the archive: the formula holds the lock's own hash, and pip holds every package to the lock's hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORMULA = Path(__file__).with_name("omlx.rb")
NO_ARCHIVE, NO_HASH = "https://example.invalid/omlx-{version}.tar.gz", "0" * 64


def formula(url: str, sha256: str) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements" / "runtime.txt").read_bytes()
    return f"""\
# Written by packaging/homebrew/make_formula.py from the lock; do not edit.
class Omlx < Formula
  include Language::Python::Virtualenv

  desc "{project["description"]}"
  homepage "{url.rpartition("/")[0]}"
  url "{url.format(version=project["version"])}"
  sha256 "{sha256}"
  license "{project["license"]}"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.13"

  LOCK = "requirements/runtime.txt".freeze
  LOCK_SHA256 = "{hashlib.sha256(lock).hexdigest()}".freeze

  def install
    odie "the lock is not the one of this formula" if Digest::SHA256.file(LOCK).hexdigest != LOCK_SHA256

    virtualenv_create(libexec, "python3.13")
    pip = [Formula["python@3.13"].opt_bin/"python3.13", "-m", "pip", "--python", libexec/"bin/python", "install"]
    system(*pip, "--require-hashes", "--requirement", LOCK)
    system(*pip, "--no-deps", "--no-build-isolation", buildpath)
    bin.install_symlink libexec/"bin/omlx"
  end

  service do
    run [opt_bin/"omlx", "serve"]
    keep_alive successful_exit: false
    log_path var/"log/omlx.log"
    error_log_path var/"log/omlx.log"
    working_dir Dir.home
  end

  test do
    assert_match version.to_s, shell_output("#{{bin}}/omlx --version")
    assert_match "Usage: omlx serve", shell_output("#{{bin}}/omlx serve --help")
  end
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the Homebrew formula from the lock.")
    parser.add_argument("--url", default=NO_ARCHIVE, help="the release's archive")
    parser.add_argument("--sha256", default=NO_HASH, help="its hash")
    arguments = parser.parse_args()
    FORMULA.write_text(formula(arguments.url, arguments.sha256), encoding="utf-8")


if __name__ == "__main__":
    main()
