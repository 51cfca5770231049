"""Which keys open the server, and from when to when."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from omlx.server.api.keys import Holder, ServerKeys

LATER = "2100-01-01T00:00:00Z"


def entry(key: str, expires: str | None = None, name: str = "x") -> dict[str, str | None]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "expires": expires}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def write(file: Path, *entries: Mapping[str, str | int | None]) -> None:
    """As omlx does: another file takes the place."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"keys": entries}))
    new.replace(file)


def test_without_any_key_the_server_is_open(file: Path):
    keys = ServerKeys(file=file)
    assert keys.is_open
    assert keys.accepts("")


def test_a_server_that_may_not_be_open_refuses_even_without_any_key(file: Path):
    assert not ServerKeys(file=file, may_be_open=False).accepts("")


def test_every_key_of_the_file_opens_and_the_environments_beside_them(file: Path):
    write(file, entry("one"), entry("two"))
    keys = ServerKeys("own", file)
    assert [keys.accepts(given) for given in ("one", "two", "own", "", "three")] == [True, True, True, False, False]


def test_a_hash_opens_nothing(file: Path):
    write(file, entry("one"))
    assert not ServerKeys(file=file).accepts(hashlib.sha256(b"one").hexdigest())


def test_a_new_key_holds_from_the_next_request_and_a_revoked_one_no_longer(file: Path):
    keys = ServerKeys(file=file)
    assert keys.accepts("")
    write(file, entry("one"))
    assert [keys.accepts(given) for given in ("one", "")] == [True, False]
    write(file, entry("two"))
    assert [keys.accepts(given) for given in ("one", "two")] == [False, True]
    file.unlink()
    assert keys.accepts("")


def test_a_launchs_key_expires_and_does_not_close_an_open_server(file: Path):
    write(file, entry("launch", "2026-11-23T12:00:00Z"))
    assert ServerKeys(file=file).is_open
    write(file, entry("lasting"), entry("launch", "2026-11-23T12:00:00Z"))
    noon = 1_795_435_200.0
    assert ServerKeys(file=file, now=lambda: noon - 1).accepts("launch")
    assert not ServerKeys(file=file, now=lambda: noon).accepts("launch")


def test_a_launchs_key_ends_with_its_process_although_the_file_stays(file: Path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        write(file, {**entry("k", LATER), "pid": process.pid})
        keys = ServerKeys("own", file)
        assert keys.accepts("k")
        process.kill()
    assert not keys.accepts("k")
    assert keys.accepts("own")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"keys": [{"sha256": "xyz"}]}',
        '{"keys": [{"sha256": 1}]}',
        '{"keys": [{}]}',
        '{"keys": [{"sha256": "", "pid": 9223372036854775807}]}',
    ],
)
def test_a_file_that_does_not_parse_opens_nothing(file: Path, content: str, caplog: pytest.LogCaptureFixture):
    file.write_text(content)
    keys = ServerKeys("own", file)
    assert [keys.accepts(given) for given in ("", "xyz", "own")] == [False, False, True]
    assert not ServerKeys(file=file).accepts("")
    assert str(file) in caplog.text


def test_keys_are_compared_as_hashes_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch):
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    write(file, entry("one"), entry("two"), entry("three"))
    keys = ServerKeys(file=file)
    for given in ("one", "on", "three", "none of them"):
        compared.clear()
        keys.accepts(given)
        assert len(compared) == 3, "all are compared, whichever it is"
        assert {len(side) for pair in compared for side in pair} == {32}


def holder(keys: ServerKeys, given: str) -> Holder:
    found = keys.holder_of(given)
    assert found is not None
    return found


def test_each_lasting_key_has_a_namespace_of_its_own_whatever_its_name(file: Path):
    write(file, entry("one", name="pi"), entry("two", name="pi"), entry("three", name="claude"))
    keys = ServerKeys("own", file)
    held = [holder(keys, given) for given in ("one", "two", "three", "own")]
    assert [each.name for each in held] == ["pi", "pi", "claude", ""]
    assert len({each.namespace for each in held} | {""}) == 5
    again = ServerKeys("own", file)
    assert [holder(again, given) for given in ("one", "two", "three", "own")] == held, "as after a restart"


def test_a_namespace_tells_neither_the_key_nor_its_hash(file: Path):
    write(file, entry("one"))
    namespace = holder(ServerKeys(file=file), "one").namespace
    assert "one" not in namespace
    assert hashlib.sha256(b"one").hexdigest()[:8] not in namespace


def test_the_launches_of_one_agent_share_a_namespace_which_is_no_other_keys(file: Path):
    names = {"first": "pi", "second": "pi", "third": "claude"}
    write(file, entry("lasting", name="pi"), *(entry(key, LATER, name) for key, name in names.items()))
    keys = ServerKeys(file=file)
    first, second, third, lasting = (holder(keys, given) for given in (*names, "lasting"))
    assert first == second
    assert len({first.namespace, third.namespace, lasting.namespace, ""}) == 4


def test_where_no_key_is_asked_all_are_one(file: Path):
    keys = ServerKeys(file=file)
    assert {holder(keys, given) for given in ("", "any", "other")} == {Holder()}
