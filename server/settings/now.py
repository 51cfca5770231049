"""The settings as they are without a server: the file and the environment, for commands that look at models."""

from __future__ import annotations

from collections.abc import Mapping

from .layers import layered
from .loading import load_document
from .serve import ServeSettings, omlx_home, settings_file


def settings_now(environ: Mapping[str, str]) -> ServeSettings:
    """Raises `SettingsError`. Nothing is served with them, so no key is asked for."""
    home = omlx_home(environ)
    document, _ = load_document(settings_file(home))
    return ServeSettings.of(layered(document, environ, {}), home, "-")
