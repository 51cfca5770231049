"""docs/settings.md, made from the types: `python -m tests.settings.settings_page > docs/settings.md`."""

from __future__ import annotations

import json
import sys

from omlx.server.settings.keys import Key, keys, model_keys
from omlx.server.settings.layers import flag_of

_HEAD = """\
# Settings

The later of these wins: the default, `settings.json` in `~/.omlx`, an environment variable, an option of `omlx serve`.
An option holds for one run and is never written down. `OMLX_HOME` moves `~/.omlx`; the key that clients must send is
`OMLX_API_KEY`, and stands in no file of ours. The end of a line after it is no part of it. One that no header carries
(blank, with a space before or after it, a control character, or one that is not ASCII) is refused at the start, and by
each command that would send it. Empty is as good as not set.

    omlx config show --origin                  every value, and where it is from
    omlx config get server.port
    omlx config set cache.ssd_bytes 20GB       plain text or JSON
    omlx config unset cache.ssd_bytes
    omlx config validate [FILE]                exit code 1 where the server would not start with it
    omlx config schema                         the JSON schema, for editors
    omlx config import ~/.omlx                 the public oMLX's settings.json and model_settings.json

`show`, `get` and `import` print JSON with `--json`; `import --dry-run` only says what would be taken.

## The file

    {
      "version": 1,
      "server": {"port": 9000, "model_dirs": ["/models"]},
      "models": {"org/name": {"alias": "coder", "max_context_window": 65536}}
    }

The schema stands in [settings.schema.json](settings.schema.json) too, and refuses what the server refuses: an editor
that finds it under `"$schema"` checks the file as you write.

It is written at once and with mode 0600. A file that cannot be read, is not JSON, names a key twice, or holds a value
that its setting does not take, stops the start with its name, the line, the reason and the remedy; it is never
replaced. A name that omlx does not know is reported with the nearest known one, kept when the file is written, and not
used; so is what a newer version has written. Relative folders are taken from the file's own, and `~` is your home. A
size is a number of bytes or a text such as `"50GB"` or `"1.5GiB"`.

The public oMLX keeps a file of the same name: it is read as what it is, with a warning. `omlx config import` says what
was taken and what was not and why, makes the file ours, and leaves a copy beside it as `settings.json.public`.

## The server's settings

They hold when the server starts the next time. Lists in a variable are separated as in `PATH`.

| setting | default | variable, option | meaning |
| --- | --- | --- | --- |
"""
_MODELS = """
## A model's settings

`models.ID.…`, with the id that `omlx status` shows. They hold from the next request on, of a running server too: it
reads the file anew when it has changed. Where that file has become invalid, the models keep the settings they had and
the log says why. `null` leaves the matter to the model.

A window below what the model declares bounds what one request can claim of the memory. One above it is followed, with a
warning in the log: some models hold more than their config says, and others write nonsense there.

| setting | default | meaning |
| --- | --- | --- |
"""
_TAIL = """
This page is made from the types in `server/settings/values.py`, and a test keeps it so.
"""


def settings_page() -> str:
    server = "".join(
        f"| `{key.name}` | {_default(key)} | `{key.variable}`, `{flag_of(key)}` | {key.description} |\n"
        for key in keys()
    )
    models = "".join(f"| `{key.path[-1]}` | {_default(key)} | {key.description} |\n" for key in model_keys("ID"))
    return _HEAD + server + _MODELS + models + _TAIL


def _default(key: Key) -> str:
    return f"`{json.dumps(key.default)}`"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
