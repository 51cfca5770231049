"""Downloads of models: started, watched, stopped and resumed from the pages."""

from __future__ import annotations


class Downloads:
    pass
