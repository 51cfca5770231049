"""`omlx list`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("list", "List the models on the disk.")
