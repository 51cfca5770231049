"""`omlx rm`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("rm", "Remove a model from the disk.")
