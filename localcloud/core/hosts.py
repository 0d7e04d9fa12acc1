"""Names of this machine's addresses, in a hosts file that several clouds share.

The file is `/etc/hosts` if this user may write it. Otherwise it is a file of the user's, or the one that the variable
`LOCALCLOUD_HOSTS` names, and programs read it through nss_wrapper: `variables` are those that they need.

The lines of a cloud are marked with the number of its addresses. Every change is made under a lock, and takes out the
lines of clouds that are gone, as a cloud that was killed leaves its lines behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from localcloud.core import cache

SYSTEM = Path("/etc/hosts")
#: The variable that names another file than the system's.
VARIABLE = "LOCALCLOUD_HOSTS"
LIBRARY = "libnss_wrapper.so"
_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
# Others have 127.0.0.1, systemd's resolver 127.0.0.53, and Debian's own name 127.0.1.1.
_NUMBERS = range(64, 255)
#: The second name of each address, with the number of the cloud. nss_wrapper reads no comments.
_MARK = "localcloud-"
_OWN = re.compile(rf"127\.\d+\.\d+\.\d+ \S+ {_MARK}(\d+)$", re.MULTILINE)
_NUMBER = re.compile(rf" {_MARK}(\d+)$", re.MULTILINE)


class NamesUnavailable(Exception):
    """No program of this machine can be told the names; the message says what to install."""


class AddressRange:
    """Addresses of this machine that no other cloud has, 127.NUMBER.0.1 to 127.NUMBER.255.254, until `close`.

    A socket without a file claims them: the kernel gives it to one process only, and takes it back when that ends.

    :raises NamesUnavailable: all ranges are taken.
    """

    def __init__(self) -> None:
        for number in random.sample(_NUMBERS, k=len(_NUMBERS)):
            claim = _claim(number)
            if claim is not None:
                self.number, self._claim = number, claim
                self._next = 0
                return
        raise NamesUnavailable(f"{len(_NUMBERS)} clouds run on this machine, and no more have addresses")

    def address(self) -> str:
        """Return an address that this method has not returned before."""
        self._next += 1
        high, low = divmod(self._next - 1, 254)
        if high > 255:
            raise NamesUnavailable("this cloud has used up its addresses: start another one")
        return f"127.{self.number}.{high}.{low + 1}"

    def close(self) -> None:
        """Give the addresses back."""
        self._claim.close()


class HostsFile:
    """A hosts file with the names of several clouds.

    :param path: it is made if missing, with a copy of the system's names.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or hosts_path()).resolve()

    def write(self, number: int, names: Mapping[str, str]) -> None:
        """Put the names of a cloud, by address, in place of its former ones. Those of clouds that are gone go."""
        with self._locked() as file:
            before = file.read_text()
            gone = {each: each == number or not is_claimed(each) for each in map(int, _NUMBER.findall(before))}
            others = _without(before, gone.__getitem__)
            separator = "\n" if names and others and not others.endswith("\n") else ""
            after = others + separator + "".join(f"{each} {name} {_MARK}{number}\n" for each, name in names.items())
            if after != before:
                _replace(file, after)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Path]:
        """Lock the file; a file that another process has replaced in the meantime is locked anew."""
        while True:
            if not self.path.exists():
                _make(self.path)
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                        yield self.path
                        return


def hosts_path() -> Path:
    """Return the file that has the names."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return Path(named).absolute()
    return SYSTEM if os.access(SYSTEM, os.W_OK) else cache.folder() / "hosts"


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables with which a program finds the names; none if the system's file has them.

    :param environment: that of the program, whose other libraries are kept.
    :raises NamesUnavailable: nss_wrapper is missing.
    """
    path = hosts_path()
    if path == SYSTEM:
        return {}
    library = next((found for folder in _FOLDERS if (found := Path(folder, LIBRARY)).exists()), None)
    if library is None:
        raise NamesUnavailable(
            f"{SYSTEM} can't be written and {LIBRARY} is missing, so that names of databases lead nowhere: "
            "apt-get install libnss-wrapper"
        )
    libraries = [each for each in environment.get("LD_PRELOAD", "").split(":") if each and not each.endswith(LIBRARY)]
    return {"LD_PRELOAD": ":".join([str(library), *libraries]), "NSS_WRAPPER_HOSTS": str(path), VARIABLE: str(path)}


def is_claimed(number: int) -> bool:
    """Tell whether a cloud that runs has the addresses of that number."""
    claim = _claim(number)
    if claim is None:
        return True
    claim.close()
    return False


def _claim(number: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0localcloud-127.{number}")
    except OSError:
        claim.close()
        return None
    return claim


def _without(text: str, unwanted: Callable[[int], bool]) -> str:
    """Return the lines, without those of clouds with unwanted numbers."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not ((own := _OWN.match(line)) and unwanted(int(own[1]))))


def _replace(path: Path, text: str) -> None:
    """Replace a file's content at once, for its readers too, if its folder allows a new file; else in place."""
    unfinished = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".hosts.", delete=False) as file:
            unfinished = Path(file.name)
            file.write(text)
        owner = path.stat()
        shutil.copystat(path, unfinished)
        os.chown(unfinished, owner.st_uid, owner.st_gid)
        unfinished.replace(path)
    except OSError:  # for instance a container's file, which is a mount of its own
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        _overwrite(path, text)


def _overwrite(path: Path, text: str) -> None:
    """Write a file in place. Empty lines cover the rest of the former content until it is cut off.

    :raises OSError: there is no room; the file is as before.
    """
    content = text.encode()
    with path.open("r+b", buffering=0) as file:
        former = file.read() or b""
        if os.pwrite(file.fileno(), content.ljust(len(former), b"\n"), 0) < len(content):
            os.pwrite(file.fileno(), former, 0)
            file.truncate(len(former))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        file.truncate(len(content))


def _make(path: Path) -> None:
    """Make the file with the system's names, without those of clouds; another process may be faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = _without(SYSTEM.read_text(), lambda _: True) if SYSTEM.exists() else "127.0.0.1 localhost\n"
    names = re.sub(r"[ \t]*#.*", "", names).strip() + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".hosts.", delete=False) as file:
        file.write(names)
    unfinished = Path(file.name)
    unfinished.chmod(0o644)
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        return
    finally:
        unfinished.unlink()


def main() -> int:
    """Print the beginning of a command line that finds the names: nothing, or `env` with variables."""
    try:
        given = variables()
    except NamesUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given:
        # A shell splits it at spaces, and removes no quotes.
        sys.stdout.write(" ".join(["env", *(f"{name}={value}" for name, value in given.items())]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
