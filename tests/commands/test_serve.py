"""`omlx serve` as a process of its own: what it says from its first moment on is in each place of its log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from omlx.server import serving
from omlx.server.__main__ import commands
from omlx.server.errors import SettingsError
from omlx.server.serving import find_models
from omlx.server.settings.document import parse_document
from omlx.server.settings.layers import layered
from omlx.server.settings.serve import ServeSettings
from omlx.server.state_file import running_server

from ..api.admin.admin_serving import ADMIN_KEY, write_keys
from ..text_model import build_text_model

SLIP = "server.prot is no setting (did you mean port?)"


def test_what_is_odd_at_the_start_is_in_the_log_and_on_its_page(tmp_path: Path):
    build_text_model(tmp_path / "models" / "a")
    build_text_model(tmp_path / "models" / "b")  # of two models none is loaded at once
    write_keys(tmp_path, ("admin", "admin", ADMIN_KEY))
    (tmp_path / "keys.json").chmod(0o644)
    (tmp_path / "settings.json").write_text('{"server": {"prot": 1}}')
    environ = {**os.environ, "OMLX_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "omlx.server", "serve", "--port", "0", "--cache-folder", "prefixes"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said: list[str] = []
        while not said or " listening on " not in said[-1]:
            said.append(server.stderr.readline())
            assert said[-1], "".join(said)
        url = said[-1].split()[-1]
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        lines = httpx.get(f"{url}/admin/api/logs", headers=headers).raise_for_status().json()
        state = running_server(tmp_path / "run" / "server.json")
        server.terminate()
        server.stderr.read()
    assert server.returncode == 0
    assert state is not None
    assert state.cache_folder == str(Path("prefixes").absolute())
    assert [line["level"] for line in lines if SLIP in line["message"]] == ["WARNING"]
    assert any(line["message"].startswith("Discovered model: a ") for line in lines)
    assert SLIP in "".join(said)
    exposed = f"keys.json has mode 0644: others can read it; close it with `chmod 600 {tmp_path}/keys.json`"
    assert exposed in "".join(said)
    log = tmp_path / "logs" / "server.log"
    assert SLIP in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_first_start_says_once_that_there_is_no_model_and_how_to_get_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert find_models(ServeSettings(tmp_path, (tmp_path / "models",))) == ()
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "`omlx pull REPO` downloads one" in said
    assert "--model-dir" not in said


def test_a_model_folder_that_is_missing_is_told_with_who_named_it(tmp_path: Path):
    document = parse_document(tmp_path / "settings.json", '{"server": {\n"model_dirs": ["absent"]}}')
    with pytest.raises(SettingsError, match=r"absent does not exist; create it, or correct .*settings.json:2"):
        find_models(ServeSettings.of(layered(document, {}, {}), tmp_path, ""))


def test_each_option_says_what_it_takes_and_its_default_as_one_would_type_it():
    shown = " ".join(CliRunner().invoke(commands, ["serve", "--help"]).stdout.split())
    for option in ("--port INTEGER", "--host TEXT", "--cache-ram-bytes SIZE", "--cache-enabled true|false"):
        assert option in shown
    assert "--stall-seconds SECONDS" in shown
    for default in ("[default: 50GiB]", "[default: 64MiB]", "[default: true]"):
        assert default in shown
    assert "VALUE" not in shown


def test_a_home_that_cannot_be_written_ends_it_before_a_line_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "run").write_text("")
    monkeypatch.setenv("OMLX_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"server.lock cannot be written"):
        CliRunner().invoke(commands, ["serve", "--port", "0"], catch_exceptions=False)
    assert caplog.messages == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("key", ["  ", "sk-sécret", "sk-secret\x7f"])
def test_a_key_that_no_client_could_send_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
):
    monkeypatch.setenv("OMLX_HOME", str(tmp_path))
    monkeypatch.setenv("OMLX_API_KEY", key)
    monkeypatch.setattr(serving, "serve", lambda *_, **__: pytest.fail("it was started"))
    with pytest.raises(SettingsError, match=r"^OMLX_API_KEY .* so no client could send it") as refused:
        CliRunner().invoke(commands, ["serve", "--port", "0"], catch_exceptions=False)
    assert "cret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
