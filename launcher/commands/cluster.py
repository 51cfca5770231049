"""`omlx cluster`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("cluster", "Plan and check a model's run on several machines.")
