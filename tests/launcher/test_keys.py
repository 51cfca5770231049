"""Keys: made, used, ended; and what the launcher writes is what the server reads."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from omlx.launcher.errors import KeyNameError, StateError
from omlx.launcher.keys import access_key, key_file, launch_key, new_key, read_keys, revoke_key, rotate_key
from omlx.launcher.machine import Machine
from omlx.launcher.state import write_private
from omlx.server.api.keys import ServerKeys

from .conftest import NO_KEYCHAIN, Omlx
from .fake_server import FakeServer, Reply

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OWN_SERVER = "http://127.0.0.1:8123"


def serve_here(home: Path, url: str) -> None:
    """The state file of a server that runs from this home."""
    state = {"pid": os.getpid(), "host": "127.0.0.1", "port": 1, "url": url, "instance_id": "x"}
    write_private(home / "run" / "server.json", json.dumps(state))


def end_process_of(name: str, home: Path) -> None:
    """Give the key of that name to a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    written = json.loads(key_file(home).read_text())
    (key,) = (each for each in written["keys"] if each["name"] == name)
    key["pid"] = process.pid
    key_file(home).write_text(json.dumps(written))


def test_the_server_takes_a_new_key_and_keeps_only_its_hash(home: Path):
    key = new_key(home, "claude", NOW)
    assert key.startswith("sk-omlx-")
    assert len(key) == len("sk-omlx-") + 43
    assert stat.S_IMODE(key_file(home).stat().st_mode) == 0o600
    assert key not in key_file(home).read_text()
    (known,) = read_keys(home)
    assert (known.name, known.last4, known.created) == ("claude", key[-4:], NOW)
    server = ServerKeys(file=key_file(home))
    assert [server.accepts(given) for given in (key, "", key[:-1])] == [True, False, False]


def test_a_rotated_or_revoked_key_opens_nothing(home: Path):
    server = ServerKeys(file=key_file(home), may_be_open=False)
    old, running = new_key(home, "pi", NOW), launch_key(home, "pi", datetime.now(UTC))
    new = rotate_key(home, "pi", NOW)
    assert [server.accepts(key) for key in (old, new, running)] == [False, True, True]
    revoke_key(home, "pi")
    assert [server.accepts(key) for key in (new, running)] == [False, False]


def test_names_are_held_to(home: Path):
    new_key(home, "pi", NOW)
    for name in ("", "Pi", "../pi", "a" * 65):
        with pytest.raises(KeyNameError, match="is no name for a key"):
            new_key(home, name, NOW)
    with pytest.raises(KeyNameError, match="omlx key rotate pi"):
        new_key(home, "pi", NOW)
    for end in (revoke_key, lambda home, name: rotate_key(home, name, NOW)):
        with pytest.raises(KeyNameError, match="there is no key 'claude'; there are: pi"):
            end(home, "claude")


def test_a_file_that_is_not_ours_is_refused_and_left(home: Path):
    home.mkdir(parents=True)
    key_file(home).write_text("{")
    with pytest.raises(StateError, match="not what omlx wrote"):
        new_key(home, "pi", NOW)
    assert key_file(home).read_text() == "{"


def test_a_launchs_key_ends_with_its_process(home: Path):
    now = datetime.now(UTC)
    key = launch_key(home, "pi", now)
    end_process_of("pi", home)
    other = launch_key(home, "claude", now)
    assert [known.last4 for known in read_keys(home)] == [other[-4:]]
    assert key != other
    assert launch_key(home, "pi", now + timedelta(days=31))
    assert len(read_keys(home)) == 1


def test_only_keys_that_still_hold_are_listed(home: Path, omlx: Omlx):
    now = datetime.now(UTC)
    lasting, left, live = new_key(home, "pi", now), launch_key(home, "status", now), launch_key(home, "claude", now)
    server = ServerKeys(file=key_file(home))
    assert server.accepts(left)
    end_process_of("status", home)
    assert [one["name"] for one in json.loads(omlx("key", "list", "--json").stdout)] == ["pi", "claude"]
    assert [key.name for key in server.described()] == ["pi", "claude"]
    assert [server.accepts(key) for key in (lasting, left, live)] == [True, False, True]
    later = ServerKeys(file=key_file(home), now=lambda: (now + timedelta(days=31)).timestamp())
    assert [key.name for key in later.described()] == ["pi"]


def test_the_key_of_a_command_ends_with_it(machine: Machine):
    home = machine.omlx_home.root
    new_key(home, "pi", NOW)
    program = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path; "
        "from omlx.launcher.keys import launch_key, read_keys; home = Path(sys.argv[1]); "
        "launch_key(home, 'status', datetime.now(UTC)); print(len(read_keys(home)))"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "2"
    assert [key.name for key in read_keys(home)] == ["pi"]


def test_a_server_that_asks_for_no_key_gets_none(machine: Machine):
    serve_here(machine.omlx_home.root, OWN_SERVER)
    assert access_key(machine, OWN_SERVER, "pi", may_make=True) is None
    assert not key_file(machine.omlx_home.root).exists()


def test_a_launch_has_the_users_key_else_its_agents_else_one_of_its_own(machine: Machine, omlx: Omlx):
    home = machine.omlx_home.root
    machine = replace(machine, environ={**machine.environ, **NO_KEYCHAIN})
    serve_here(home, OWN_SERVER)
    agents = omlx("key", "new", "pi", "--yes").stdout.strip()
    assert access_key(machine, OWN_SERVER, "pi", may_make=False) == agents
    assert access_key(machine, OWN_SERVER, "claude", may_make=False) is None
    made = access_key(machine, OWN_SERVER, "claude", may_make=True)
    assert made is not None
    assert ServerKeys(file=key_file(home)).accepts(made)
    shell = replace(machine, environ={**machine.environ, "OMLX_API_KEY": "mine"})
    assert access_key(shell, OWN_SERVER, "pi", may_make=True) == "mine"


@pytest.mark.parametrize("url", ["http://10.0.0.7:8123", "http://127.0.0.1:1234", "https://127.0.0.1:8123"])
def test_no_key_of_this_home_goes_to_another_server(machine: Machine, omlx: Omlx, url: str):
    serve_here(machine.omlx_home.root, OWN_SERVER)
    assert omlx("key", "new", "pi", "--yes").exit_code == 0
    assert access_key(machine, url, "pi", may_make=True) is None
    assert access_key(machine, "http://localhost:8123", "pi", may_make=True) is not None


def test_a_kept_key_is_shown_on_request_and_no_other(omlx: Omlx, home: Path):
    key = omlx("key", "new", "pi", "--yes").stdout.strip()
    shown = omlx("key", "show", "pi", OMLX_API_KEY="another key, of the shell")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, f"{key}\n", "")
    assert json.loads(omlx("key", "show", "pi", "--json").stdout) == {"name": "pi", "key": key}
    unknown = omlx("key", "show", "claude")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "there are: pi. `omlx key new claude` makes one" in unknown.stderr
    rotate_key(home, "pi", NOW)  # elsewhere, with another keychain
    outdated = omlx("key", "show", "pi")
    assert (outdated.exit_code, outdated.stdout) == (1, "")
    assert "`omlx key rotate pi` makes a new one" in outdated.stderr


def test_wiring_where_the_agent_has_no_key_says_how_it_gets_one(omlx: Omlx, home: Path, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    serve_here(home, server.url)
    assert omlx("key", "new", "pi", "--yes").exit_code == 0
    wired = omlx("wire", "hermes", "--yes")
    assert '`omlx key new hermes` makes one, and `export OMLX_API_KEY="$(omlx key show hermes)"`' in wired.stderr


def test_the_command_prints_a_key_once_and_lists_its_end_alone(omlx: Omlx, home: Path):
    made = omlx("key", "new", "pi", "--yes")
    key = made.stdout.strip()
    assert "now asks for a key" in made.stderr
    assert f"kept in {home / 'keys' / 'keys.json'}" in made.stderr
    listed = omlx("key", "list").stdout
    assert f"…{key[-4:]}" in listed
    assert key not in listed
    (one,) = json.loads(omlx("key", "list", "--json").stdout)
    assert (one["name"], one["last4"], one["expires"]) == ("pi", key[-4:], None)
    rotated = json.loads(omlx("key", "rotate", "pi", "--yes", "--json").stdout)
    assert rotated["key"] != key
    revoked = omlx("key", "revoke", "pi")
    assert (revoked.exit_code, revoked.stdout) == (0, "Revoked pi.\n")
    assert "No key is left" in revoked.stderr
    assert "There are no keys" in omlx("key", "list").stderr
    assert omlx("key", "admin").exit_code == 0
    assert omlx("key", "new", "pi", "--yes").exit_code == 0
    assert "No key but the admin pages' is left" in omlx("key", "revoke", "pi").stderr
    assert not (home / "keys" / "keys.json").exists()


def test_a_home_that_is_no_folder_ends_with_one_line(omlx: Omlx, home: Path):
    home.parent.mkdir(parents=True, exist_ok=True)
    home.write_text("")
    for command in (("key", "new", "pi"), ("completion", "zsh")):
        ended = omlx(*command)
        assert (ended.exit_code, ended.stderr.count("\n")) == (1, 1)
        assert ended.stderr.startswith("omlx: cannot ")


def test_without_a_keychain_and_consent_the_key_is_printed_and_kept_nowhere(omlx: Omlx, home: Path):
    made = omlx("key", "new", "pi", "--json")
    assert (made.exit_code, json.loads(made.stdout)["kept_in"]) == (0, None)
    assert "the key is kept nowhere" in made.stderr
    assert "`omlx key rotate pi --yes` makes another" in made.stderr
    assert not (home / "keys").exists()


def test_a_launch_speaks_with_its_agents_key_and_shows_it_nowhere(omlx: Omlx, home: Path, server: FakeServer):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    serve_here(home, server.url)
    key = omlx("key", "new", "pi", "--yes").stdout.strip()
    shown = [omlx("launch", "pi", *options) for options in (["--dry-run"], ["--dry-run", "--json"], ["--print-env"])]
    assert [result.exit_code for result in shown] == [0, 0, 0], shown[0].output
    assert server.requests[-1].headers["authorization"] == f"Bearer {key}"
    assert not [result for result in shown if key in result.output]
    assert 'export OMLX_API_KEY="$(omlx key show pi)"' in shown[2].stdout.splitlines()
    wired = omlx("wire", "pi", "--dry-run")
    assert 'which Pi takes from OMLX_API_KEY: `export OMLX_API_KEY="$(omlx key show pi)"` in the shell' in wired.stderr
    assert "$OMLX_API_KEY" in wired.stdout


@pytest.mark.parametrize("command", ["launch", "wire"])
def test_a_dry_run_is_not_refused_for_a_key_that_the_command_itself_would_make(
    omlx: Omlx, home: Path, server: FakeServer, command: str
):
    server.serve_models({"id": "m", "max_model_len": 131_072})
    listed = server.answers["/v1/models"]
    refused = Reply({"error": "no"}, 401)
    server.answers["/v1/models"] = lambda asked: listed(asked) if "authorization" in asked.headers else refused
    serve_here(home, server.url)
    assert omlx("key", "new", "pi", "--yes").exit_code == 0
    shown = omlx(command, "claude", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "sk-omlx-" not in shown.output
    assert omlx("launch", "claude", "--print-env").exit_code == 4, "its lines would outlive that key"


def test_the_admin_key_opens_the_admin_pages_alone_and_a_new_one_ends_it(home: Path, omlx: Omlx):
    first = omlx("key", "admin").stdout.strip()
    keys = ServerKeys(file=key_file(home))
    assert keys.admin_digest(first)
    assert keys.is_open, "no other route asks for a key yet"
    agents = omlx("key", "new", "pi", "--yes").stdout.strip()
    assert not keys.accepts(first)
    assert keys.admin_digest(agents) is None
    second = json.loads(omlx("key", "admin", "--json").stdout)["key"]
    assert (keys.admin_digest(first), bool(keys.admin_digest(second))) == (None, True)
    assert [key.name for key in read_keys(home)] == ["pi", "admin"]


@pytest.mark.parametrize("is_made", [False, True])
def test_the_admin_key_is_made_by_one_command_to_which_all_others_send(home: Path, omlx: Omlx, is_made: bool):
    key = omlx("key", "admin").stdout.strip() if is_made else ""
    told = [omlx("key", verb, "admin") for verb in ("new", "show", "rotate")]
    assert [(one.exit_code, one.stdout) for one in told] == [(1, "")] * 3
    assert len({one.stderr for one in told}) == 1
    assert "`omlx key admin` makes a new one" in told[0].stderr
    assert bool(ServerKeys(file=key_file(home)).admin_digest(key)) is is_made
    assert [known.scope for known in read_keys(home)] == ["admin"] * is_made
    unknown = omlx("key", "show", "pi").stderr
    assert "there are: none. `omlx key new pi` makes one" in unknown


def test_a_revoked_admin_key_opens_the_pages_no_more(home: Path, omlx: Omlx):
    key = omlx("key", "admin").stdout.strip()
    assert omlx("key", "revoke", "admin").exit_code == 0
    assert ServerKeys(file=key_file(home)).admin_digest(key) is None
