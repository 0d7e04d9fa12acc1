"""Programs of the system's packages, and the environment that they run in."""

import os
import shutil

SYSTEM = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


def program(name: str) -> str:
    """Return the path of a program of the system's packages."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise RuntimeError(f"{name} is missing")
    return path
