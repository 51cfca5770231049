"""`omlx pull`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("pull", "Download a model from the hub.")
