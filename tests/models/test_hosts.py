"""The host file of mlx.launch, read as it reads it, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from omlx.server.errors import SettingsError
from omlx.server.models.hosts import Host, HostFile


def read(folder: Path, text: str) -> HostFile:
    path = folder / "hosts.json"
    path.write_text(text)
    return HostFile.read(path)


def test_a_list_of_hosts_and_a_file_with_a_back_end_are_read(tmp_path: Path):
    hosts = '[{"ssh": "mac-1", "ips": ["10.0.0.1"], "memory_gb": 64}, {"ssh": "127.0.0.1"}]'
    listed = read(tmp_path, hosts)
    assert listed.hosts == (Host("mac-1", 64 * 10**9), Host("127.0.0.1"))
    assert [host.is_this_machine for host in listed.hosts] == [False, True]
    assert listed.backend == "ring"
    named = read(tmp_path, f'{{"backend": "jaccl", "envs": [], "hosts": {hosts}}}')
    assert (named.hosts, named.backend) == (listed.hosts, "jaccl")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no host file"),
        ('[{"ips": []}]', "ssh"),
        ("[]", "names no host; write an entry for each machine"),
        ('{"hosts": 3}', "no host file"),
    ],
)
def test_another_file_is_refused_with_its_reason(tmp_path: Path, text: str, reason: str):
    with pytest.raises(SettingsError, match=reason):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.json: cannot be read.*name the host file"):
        HostFile.read(tmp_path / "nowhere.json")
