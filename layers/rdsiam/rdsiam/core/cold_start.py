"""Makes a function load its modules faster: without garbage collections, and without pydantic's search for plugins.

Import it before all other modules, and call `loaded` after them. See docs/decisions/0020-cold-start.md.
"""

import gc
import sys
from types import ModuleType

gc.disable()

# pydantic's module that searches the installed packages for plugins. There are none, and what it imports takes 3 % of a
# cold start. A pydantic without this module never asks for it.
_plugins = ModuleType("pydantic.plugin._loader")
_plugins.get_plugins = tuple  # type: ignore[attr-defined]
sys.modules[_plugins.__name__] = _plugins


def loaded() -> None:
    """Let the garbage collector work again, and spare it what the modules have made."""
    gc.freeze()
    gc.enable()
