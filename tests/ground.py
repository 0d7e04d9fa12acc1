"""The folder that the database servers of the tests keep their data in: in memory, if all of it fits there.

Tests make and remove thousands of files. On a disk, a quarter of the suite's time would be the file system's.
"""

import os
import tempfile
from pathlib import Path

import psutil

from tests.spreading import WORKERS

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  folders in it have names of their own
#: Bytes that a worker needs at most: its processes, and the data of its databases.
_OF_A_WORKER = 4 << 30


def keep_data_in_memory() -> None:
    """Let the servers that this process and its children start keep their data in memory, if it fits.

    Files of the tests themselves stay where they were.
    """
    tempfile.gettempdir()  # which is chosen for this process here
    if "TMPDIR" not in os.environ and fits(_SHARED_MEMORY, WORKERS):
        os.environ["TMPDIR"] = str(_SHARED_MEMORY)


def folder_for_servers() -> Path:
    """Make a folder for the data of database servers; whoever asks for it removes it."""
    return Path(tempfile.mkdtemp(prefix="rdsiam-test-", dir=os.environ.get("TMPDIR")))


def fits(folder: Path, workers: int) -> bool:
    """Tell whether the data of all workers fit into a folder in memory, from which servers can also load libraries."""
    try:
        status = os.statvfs(folder)
    except FileNotFoundError:
        return False
    if status.f_flag & os.ST_NOEXEC:
        return False
    free = min(psutil.virtual_memory().available, status.f_bavail * status.f_frsize)
    return bool(free >= workers * _OF_A_WORKER)
