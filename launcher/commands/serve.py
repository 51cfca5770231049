"""`omlx serve`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("serve", "Serve models over HTTP.", holds_signals=True)
