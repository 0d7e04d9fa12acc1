"""Logs of localcloud: a file has everything, and the terminal only what has to be known or done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

#: The value of `--log-file` that has everything written to stderr.
STDERR = Path("-")
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_PACKAGE = logging.getLogger("localcloud")


def log_to_terminal(log: Path | None, *, verbose: bool) -> None:
    """Log to stderr: warnings and errors of localcloud itself as sentences, or everything.

    Other libraries' messages, calls and logins that were judged, and what localcloud doesn't model go to the file only.

    :param log: the value of `--log-file`; everything goes to stderr if it is `STDERR`.
    :param verbose: everything goes to stderr, with details.
    """
    handler = logging.StreamHandler()
    if verbose or log == STDERR:
        handler.setFormatter(logging.Formatter(_FORMAT))
    else:
        handler.setFormatter(logging.Formatter("localcloud: %(message)s"))
        handler.setLevel(logging.WARNING)
        handler.addFilter(logging.Filter(_PACKAGE.name))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(capture=True)
    _PACKAGE.setLevel(logging.DEBUG if verbose else logging.INFO)


def log_to_file(file: Path) -> Callable[[], None]:
    """Log everything to a file too, from now on; return a function that ends that.

    :raises OSError: the file can't be written.
    """
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)

    def end() -> None:
        root.removeHandler(handler)
        handler.close()

    return end
