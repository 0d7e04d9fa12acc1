"""Which files of settings in working directories the user trusts: by their place and their content.

A working directory may be somebody else's repository. A file there could send logins to another API, and with them
queries and passwords to another database, so it counts only after `rdsiam config trust`, and not after it has changed.
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
    """A file as it was when it was read. What is judged and what is used are the same bytes.

    :ivar path: where it stands: absolute, its directory without symbolic links. The file itself may be one.
    """

    path: Path
    content: bytes

    @property
    def trusted(self) -> bool:
        """Whether the user trusted just this content at this place."""
        return self._mark().is_file()

    def trust(self) -> None:
        """Remember it."""
        mark = self._mark()
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.write_bytes(os.fsencode(self.path))

    def _mark(self) -> Path:
        # A length keeps two pairs of path and content from being the same text.
        path = os.fsencode(self.path)
        known = hashlib.sha256(b"%d %s %s" % (len(path), path, self.content)).hexdigest()
        return directory() / "trusted" / known


def directory() -> Path:
    """Return the directory of the user's own settings.

    A relative XDG_CONFIG_HOME doesn't count, as its standard says: it would lead into the working directory.
    """
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "rdsiam"


def local_file(path: Path) -> LocalFile | None:
    """Read the file of settings at `path`, or in that directory; None if there is none.

    :raises Usage: it is no ordinary file, or larger than settings are.
    """
    path = _place(path)
    try:
        # Without waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Usage(f"{path} is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise Usage(f"{path} is larger than {_MAX_BYTES:,} bytes: these are no settings of rdsiam")
    return LocalFile(path, content)


def forget(path: Path) -> int:
    """Trust no content at that place any longer; return how many were trusted."""
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
