"""A model is data: no code of its folder runs, and nothing that could run code is read."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..engine.test_process import folder, process, receive  # noqa: F401

_MARK = "import pathlib\npathlib.Path({marker!r}).write_text('ran')\n"


@pytest.mark.parametrize(
    "key",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config", "AutoTokenizer": "evil.T"}},
        {"model_file": "evil.py"},
        {"trust_remote_code": True, "auto_map": {"AutoConfig": "evil.Config"}},
    ],
)
def test_no_code_of_a_model_runs(folder: Path, tmp_path: Path, key: dict[str, object]):  # noqa: F811
    marker, model = tmp_path / "marker", tmp_path / "model"
    model.mkdir()
    for file in folder.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **key}))
    (model / "tokenizer_config.json").write_text(json.dumps(key))
    for name in ("evil.py", "modeling_evil.py", "conftest.py", "sitecustomize.py"):
        (model / name).write_text(_MARK.format(marker=str(marker)))

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, (_MARK.format(marker=str(marker)),)

    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with process(model) as (_, connection):
        receive(connection)
    assert not marker.exists()


@pytest.mark.parametrize(
    "word",
    [
        r"trust_remote_code\s*=\s*True",
        r"\bimport (pickle|marshal|shelve|dill)\b",
        r"\bfrom (pickle|marshal|shelve|dill) import\b",
        r"\btorch\.load\b",
        r"allow_pickle\s*=\s*True",
        r"\byaml\.(unsafe_load|full_load)\(|\byaml\.load\((?!.*(_LOADER|SafeLoader))",
        r"\b(eval|exec)\(",
        r"shell\s*=\s*True",
        r"\bset_wired_limit\(",  # runs no code, but macOS panicked where it was raised (mlx#3186)
    ],
)
def test_the_sources_hold_nothing_that_runs_what_it_reads(checkout: Path, word: str):
    found = [
        f"{path.relative_to(checkout)}:{number}: {line.strip()}"
        for room in ("server", "launcher", "integrations")
        for path in sorted((checkout / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(word, line) and not re.search(r"mx\.eval\(|model\.eval\(|\.eval\(|re\.compile|SafeLoader", line)
    ]
    assert found == []


def test_an_engine_listens_on_no_port(folder: Path):  # noqa: F811
    with process(folder) as (child, connection):
        receive(connection)
        inodes = (
            {
                line.split()[9]
                for name in ("tcp", "tcp6", "udp", "udp6")
                for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
            }
            if sys.platform == "linux"
            else set()
        )
        links = subprocess.run(["ls", "-l", f"/proc/{child.pid}/fd"], capture_output=True, text=True, check=False)
        held = set(re.findall(r"socket:\[(\d+)\]", links.stdout))
    assert not held & inodes
