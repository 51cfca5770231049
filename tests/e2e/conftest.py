from __future__ import annotations

from pathlib import Path

import pytest

from .embedded import EmbeddedModelMissing, import_embedded_model


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The embedded model's folder, imported once a session."""
    try:
        return import_embedded_model()
    except EmbeddedModelMissing as missing:
        pytest.skip(str(missing))
