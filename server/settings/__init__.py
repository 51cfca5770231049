"""The server's settings, as values that are passed to whoever needs them."""

from .serve import ServeSettings

__all__ = ["ServeSettings"]
