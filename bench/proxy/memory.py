"""The resident memory of processes."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: MB that the proxy may grow by while data pass: buffers of one connection, and none of the data.
MOST_GROWTH = 8
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> float:
    """Return the resident memory of a process and its children, in MB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE / 1e6 + sum(resident(int(child)) for child in children)


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Note the resident memory of a process every 20 ms."""
    seen: list[float] = [resident(pid)]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen.append(resident(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
