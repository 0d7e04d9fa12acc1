"""Holds the garbage collector back while a function loads its modules: they make objects that stay.

Import it before all other modules, and call `loaded` after them. See docs/decisions/0020-cold-start.md.
"""

import gc

gc.disable()


def loaded() -> None:
    """Let the garbage collector work again, and spare it what the modules have made."""
    gc.freeze()
    gc.enable()
