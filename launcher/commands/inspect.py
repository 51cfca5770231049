"""`omlx inspect`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("inspect", "Say what a model is and takes.")
