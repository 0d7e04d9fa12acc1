"""Standard streams of the command: a reader that leaves and a full disk end it in order, without a traceback.

Imports nothing slow: `rdsiam token` signs without click and botocore.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

UNEXPECTED, INTERRUPTED = 1, 130


class _Stdout(io.FileIO):
    """Data for a reader. Once the reader has left, the rest is discarded: the command goes on to its own exit code."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


class _Stderr(io.FileIO):
    """Lines for people, which are lost if they can't be written: they decide nothing."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Replace stdout and stderr by streams that survive a reader that left; text of every kind can be written."""
    _occupy_missing()
    sys.stdout = _text(_Stdout(1, "w", closefd=False))
    sys.stderr = _text(_Stderr(2, "w", closefd=False), line_buffering=True)


def run(command: Callable[[], None]) -> int:
    """Run a command that ends by returning or by SystemExit, and return its exit code."""
    try:
        try:
            command()
            code = 0
        except SystemExit as end:
            code = _code(end)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("rdsiam: interrupted\n")
        code = INTERRUPTED
    except OSError as error:
        # Neither a message of AWS nor one of a database: their errors are translated where they occur.
        from rdsiam.command.output import progress

        place = f"{error.filename}: " if error.filename else "output: " if _is_full(error) else ""
        progress(f"rdsiam: {place}{error.strerror or error} [unexpected]")
        code = UNEXPECTED
    _drop_unwritten()
    if signals := sys.modules.get("signal"):  # the fast path has not loaded it
        # The exit code is known: an interrupt that comes now would replace it.
        signals.signal(signals.SIGINT, signals.SIG_IGN)
    return code


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return int(end.code or 0)
    sys.stderr.write(f"{end.code}\n")
    return UNEXPECTED


def _drop_unwritten() -> None:
    """Discard what can't be written, so that the interpreter doesn't try again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _occupy_missing() -> None:
    """Open the null device for each standard stream that was closed, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number


def _text(raw: io.FileIO, line_buffering: bool = False) -> io.TextIOWrapper:
    line_buffering = line_buffering or raw.isatty()
    old = sys.__stdout__
    encoding = (old.encoding if old else None) or "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=line_buffering)
