from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from omlx.launcher.errors import SecretsError
from omlx.launcher.secrets import Keychain, KeyStore, find_backend, system_keychain

KEY = "omlx-0123456789abcdef"


class MemoryBackend:
    """A keychain in memory."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str, /) -> str | None:
        return self.items.get((service, username))

    def set_password(self, service: str, username: str, password: str, /) -> None:
        self.items[service, username] = password


def store(home: Path, backend: MemoryBackend | None, environ: dict[str, str] | None = None) -> KeyStore:
    return KeyStore(home, environ or {}, Keychain(lambda: backend))


def refuse(_: Path) -> bool:
    return False


def test_all_keys_are_one_item_in_the_keychain_and_no_file(tmp_path):
    backend = MemoryBackend()
    keys = store(tmp_path, backend)
    assert keys.put("claude", KEY, refuse) == "the keychain"
    keys.put("pi", "other", refuse)
    assert (keys.get("claude"), keys.get("pi"), keys.get("nobody")) == (KEY, "other", None)
    assert keys.names() == ("claude", "pi")
    assert list(backend.items) == [("omlx", "keys")]
    assert not keys.file.exists()
    keys.remove("claude")
    assert (keys.get("claude"), keys.names()) == (None, ("pi",))


def test_without_a_keychain_a_key_goes_into_a_private_file_only_with_consent(tmp_path):
    keys = store(tmp_path, None)
    with pytest.raises(SecretsError, match="no keychain; set OMLX_API_KEY"):
        keys.put("claude", KEY, refuse)
    assert not keys.file.exists()
    assert keys.put("claude", KEY, lambda path: path == keys.file) == str(keys.file)
    assert keys.get("claude") == KEY
    assert (stat.S_IMODE(keys.file.stat().st_mode), stat.S_IMODE(keys.file.parent.stat().st_mode)) == (0o600, 0o700)
    keys.remove("claude")
    assert not keys.file.exists()


def test_a_key_leaves_the_file_once_there_is_a_keychain(tmp_path):
    store(tmp_path, None).put("claude", "old", lambda _: True)
    keys = store(tmp_path, MemoryBackend())
    assert keys.get("claude") == "old"
    keys.put("claude", KEY, refuse)
    assert (keys.get("claude"), keys.file.exists()) == (KEY, False)


def test_the_environment_wins(tmp_path):
    backend = MemoryBackend()
    store(tmp_path, backend).put("claude", KEY, refuse)
    assert store(tmp_path, backend, {"OMLX_API_KEY": "mine"}).get("claude") == "mine"


@pytest.mark.parametrize("where", ["file", "folder"])
def test_a_file_that_others_can_read_is_refused(tmp_path, where):
    keys = store(tmp_path, None)
    keys.put("claude", KEY, lambda _: True)
    (keys.file if where == "file" else keys.file.parent).chmod(0o750)
    with pytest.raises(SecretsError, match="others can read") as caught:
        keys.get("claude")
    assert KEY not in str(caught.value)


def test_a_keychain_that_does_not_answer_costs_only_its_time_limit(tmp_path):
    released = threading.Event()

    class Locked(MemoryBackend):
        def get_password(self, *_: str) -> str | None:
            released.wait(60)
            return None

    keys = KeyStore(tmp_path, {}, Keychain(Locked, seconds=0.05))
    with pytest.raises(SecretsError, match="did not answer"):
        keys.get("claude")
    released.set()


def test_a_keychain_that_refuses_is_no_reason_to_forget_the_file(tmp_path):
    class Refusing(MemoryBackend):
        def get_password(self, *_: str) -> str | None:
            raise RuntimeError("locked")

    store(tmp_path, None).put("claude", KEY, lambda _: True)
    keys = store(tmp_path, Refusing())
    assert keys.get("claude") == KEY
    with pytest.raises(SecretsError, match=r"refused \(locked\); unlock it"):
        keys.get("pi")


def test_an_item_that_omlx_did_not_write_is_refused(tmp_path):
    backend = MemoryBackend()
    backend.set_password("omlx", "keys", "[1]")
    with pytest.raises(SecretsError, match="not what omlx wrote"):
        store(tmp_path, backend).get("claude")


def test_only_back_ends_that_encrypt_are_taken(monkeypatch):
    import keyring.backend

    class PlaintextKeyring(MemoryBackend):
        priority = 9.0

    class Keyring(MemoryBackend):
        priority = 5.0

    PlaintextKeyring.__module__ = "keyrings.alt.file"
    Keyring.__module__ = "keyring.backends.SecretService"
    plain, safe = PlaintextKeyring(), Keyring()
    monkeypatch.setattr(keyring.backend, "get_all_keyring", lambda: [plain, safe])
    assert find_backend({}) is safe
    assert find_backend({"PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring"}) is safe
    assert find_backend({"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}) is None
    monkeypatch.setattr(keyring.backend, "get_all_keyring", lambda: [plain])
    assert find_backend({}) is None


def test_a_terminal_gives_time_to_type_a_password():
    assert (system_keychain({}, interactive=True).seconds, system_keychain({}, interactive=False).seconds) == (60, 5)


def test_keyring_is_imported_only_when_a_key_is_needed():
    code = "import sys, omlx.launcher.secrets; sys.exit('keyring' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SCRIPT = """
import sys
from pathlib import Path
from omlx.launcher.secrets import KeyStore, find_backend, system_keychain
keys = KeyStore(Path(sys.argv[1]), {}, system_keychain({}, interactive=False))
try:
    place = keys.put("claude", "omlx-key of é\\ntwo lines", lambda _: False)
    print(type(find_backend({})).__module__, place, keys.get("claude") == "omlx-key of é\\ntwo lines", keys.names())
    keys.remove("claude")
    print(keys.names())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("unlocked", [True, False])
def test_a_real_secret_service_keeps_keys_and_a_locked_one_refuses_at_once(tmp_path, unlocked):
    missing = [name for name in ("dbus-run-session", "gnome-keyring-daemon") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (Debian: apt install gnome-keyring dbus dbus-daemon)")
    start = "printf pw | gnome-keyring-daemon --unlock" if unlocked else "gnome-keyring-daemon --start"
    shell = f'{start} --components=secrets >/dev/null; exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", shell, sys.executable, SCRIPT, str(tmp_path / "omlx")],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if unlocked:
        lines = ["keyring.backends.SecretService the keychain True ('claude',)", "()"]
        assert done.stdout.splitlines() == lines, done.stderr
        stored = (tmp_path / ".local/share/keyrings").rglob("*")
        assert not any(b"omlx-key of" in path.read_bytes() for path in stored if path.is_file())
    else:
        assert done.stdout.startswith("SecretsError the keychain refused"), done.stderr
