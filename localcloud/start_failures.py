"""The reason why a cloud did not start, as a sentence for the person who started it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

#: Bytes that a cloud with one database needs.
_LEAST_SPACE = 200_000_000
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER_FOLDER = "free some, or name another folder in the variable TMPDIR"


class StartFailed(Exception):
    """The cloud could not be started."""


def check_space(directory: Path) -> None:
    """Check that the folder of a cloud has room for a database.

    :raises StartFailed: it has less.
    """
    free = shutil.disk_usage(directory).free
    if free < _LEAST_SPACE:
        raise StartFailed(
            f"{directory.parent} has {free / 1e6:.0f} MB of free space ({_LEAST_SPACE / 1e6:.0f} MB expected); "
            f"{_OTHER_FOLDER}"
        )


def reason(error: BaseException) -> str:
    """Return the reason as a sentence that says what to do, as far as that is known."""
    if isinstance(error, ImportError):
        return f"a Python package is missing or incomplete: {error}; run `make setup`"
    if type(error).__module__.startswith("localcloud."):
        return str(error)  # its text is a sentence
    if isinstance(error, OSError):
        return _reason_of_the_system(error)
    return f"{type(error).__name__}: {error}"


def _reason_of_the_system(error: OSError) -> str:
    if error.errno in _FULL:
        return f"no space is left for {error.filename or tempfile.gettempdir()}; {_OTHER_FOLDER}"
    if error.errno == errno.ENOENT and error.filename is None:  # tempfile's, which has tried several folders
        return f"{error.strerror}; name a folder that can be written to in the variable TMPDIR"
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
