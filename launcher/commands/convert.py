"""`omlx convert`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("convert", "Pack a model's weights in fewer bits.")
