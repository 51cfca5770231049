"""The agents omlx can launch: one module each. Adding a module adds the agent; there is no list to extend."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .spec import Integration


def names() -> tuple[str, ...]:
    """The agents' names, sorted: the modules of this folder, but for `spec` and `_private` ones. Imports none."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if name != "spec" and not name.startswith("_")))


def find(name: str) -> Integration | None:
    """The integration called `name`, or None."""
    if name not in names():
        return None
    integration = import_module(f"{__name__}.{name}").INTEGRATION
    assert isinstance(integration, Integration)
    assert integration.name == name
    return integration
