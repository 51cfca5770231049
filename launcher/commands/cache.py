"""`omlx cache`, which the server's side answers."""

from __future__ import annotations

from ..server_command import server_command

command = server_command("cache", "Clear the prompt prefixes on disk.")
