"""Trust in the settings files of working directories, by path and content.

A working directory may be a cloned repository. A settings file there could send logins to another API, and with them
queries and passwords to another database. So it applies only after `rdsiam config trust`, until it changes.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rdsiam.command.errors import NotFound, Usage

#: Name of the file in a working directory.
NAME = "rdsiam.toml"
_MAX_BYTES = 65_536


@dataclass(frozen=True)
class LocalFile:
    """A settings file as it was when it was read: the checked bytes are the used bytes.

    :ivar path: absolute; its directory has no symbolic links, but the file itself may be one.
    """

    path: Path
    content: bytes

    @property
    def trusted(self) -> bool:
        """Whether the user trusted exactly this content at this path."""
        return self._mark().is_file()

    def trust(self) -> None:
        """Record that the user trusts this content at this path."""
        mark = self._mark()
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_bytes(os.fsencode(self.path))

    def _mark(self) -> Path:
        # The length keeps two pairs of path and content from making the same text.
        path = os.fsencode(self.path)
        known = hashlib.sha256(b"%d %s %s" % (len(path), path, self.content)).hexdigest()
        return directory() / "trusted" / known


def directory() -> Path:
    """Return the directory of the user's own settings.

    A relative XDG_CONFIG_HOME is ignored, as its standard says: it would lead into the working directory.
    """
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "rdsiam"


def local_file(path: Path) -> LocalFile | None:
    """Read the settings file at `path`, or in that directory; None if there is none.

    :raises Usage: it is no ordinary file, or too large.
    """
    path = _place(path)
    try:
        # Non-blocking: a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Usage(f"{path}: not an ordinary file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise Usage(f"{path}: larger than {_MAX_BYTES:,} bytes, so not a settings file of rdsiam")
    return LocalFile(path, content)


def forget(path: Path) -> int:
    """No longer trust any content at that path; return how many contents were trusted."""
    place = _place(path)
    marks = [mark for mark, marked in _marks() if marked == place]
    for mark in marks:
        mark.unlink()
    return len(marks)


def _place(path: Path) -> Path:
    """Return the path of the file that is at `path`, or in that directory."""
    if path.is_dir():
        path /= NAME
    return Path(os.path.realpath(path.parent)) / path.name


def _marks() -> Iterator[tuple[Path, Path]]:
    folder = directory() / "trusted"
    for mark in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield mark, Path(os.fsdecode(mark.read_bytes()))
