"""The process that cleans up after localcloud: kills process groups and removes directories once its parent is gone.

Orders come on stdin, each ended by a NUL: `kill <group>`, `forget <group>`, `remove <directory>`.
They are carried out when stdin ends; the kernel closes it in whichever way the parent dies.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Read orders until the parent is gone, then carry them out."""
    groups: set[int] = set()
    directories: list[Path] = []
    for order, argument in _orders():
        if order == "kill":
            groups.add(int(argument))
        elif order == "forget":
            groups.discard(int(argument))
        elif order == "remove":
            directories.append(Path(argument))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # it ended by itself
    deadline = time.monotonic() + 1.5
    while any(directory.exists() for directory in directories) and time.monotonic() < deadline:
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)  # dying children may still write, so the loop repeats
        time.sleep(0.02)


def _orders() -> list[tuple[str, str]]:
    text = sys.stdin.buffer.read().decode()
    return [(order, argument) for order, _, argument in (line.partition(" ") for line in text.split("\0")) if order]


if __name__ == "__main__":
    main()
