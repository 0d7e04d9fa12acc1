"""Database servers that behave like RDS's: their protocol, and the functions that engines share."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from localcloud.core import processes
from localcloud.core.tails import last_lines

#: (user, token, whether the connection is encrypted); raises `token_verifier.LoginRefused` to refuse the login.
Verify = Callable[[str, str, bool], None]

MAX_TOKEN = 65_536
START_LIMIT = 60.0


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server, and the names in its certificate.

    :ivar host: the name by which clients find it.
    :ivar addresses: the addresses of this machine that it listens on, each at `port`.
    :ivar names: the names in its certificate; the first is the common name.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of_localhost(cls) -> ServerAddress:
        """Return an address for a server without a cloud: `localhost` and a free port."""
        addresses = tuple(processes.loopback_addresses())
        return cls("localhost", processes.free_port(), addresses, ("localhost", *addresses))

    @property
    def socket(self) -> tuple[str, int]:
        """The address and the port that are this server's alone."""
        return self.addresses[0], self.port


class DatabaseServer(Protocol):
    """A database server at an address of its own, with an administrator who is no superuser.

    `address` may change while the server is stopped.
    """

    address: ServerAddress

    @property
    def product(self) -> str:
        """The server's product, version and kind of administrator, as the log has them."""

    def start(self) -> None:
        """Start the server, making its data on the first call. Blocks until it answers."""

    def stop(self) -> None:
        """Close all connections and end the server. Blocks until it has ended; the data stay."""

    def set_iam(self, enabled: bool) -> None:
        """Switch IAM authentication on or off, while it runs."""

    def set_master_password(self, password: str) -> None:
        """Give the administrator another password, while it runs."""

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Set the known parameters of RDS for later starts, and those that may change while it runs at once.

        Others are ignored.
        """

    def copy_to(self, directory: Path) -> None:
        """Copy all data to `directory`, as they are at one moment, whether the server runs or not.

        A server that starts in that directory has the same data and users.
        """

    def upgrade(self, version: str) -> None:
        """Move the data to another version of the engine, if the server has several; restart. No replica.

        :raises ServerFailed: the new version does not take the data. The server runs with the version that it had.
        """

    def renew(self) -> None:
        """Copy the source anew, whose data have another version now; only for a replica."""

    def promote(self) -> None:
        """Stop following the source, and accept writes; only for a replica that runs."""

    def take_over(self) -> None:
        """Stop the source and accept writes in its place, without losing any; only for a replica that runs."""

    def follow(self, source: Self) -> None:
        """Follow the replica that has taken over from the source; only for a replica that runs.

        :raises ServerFailed: it can't, since it has written or replayed what the other has not.
        """


class ServerFailed(Exception):
    """A database server or one of its tools failed; the message has the last lines of its log."""


def run_as_nobody(command: list[str | Path], log: Path, env: dict[str, str] | None = None) -> None:
    """Run a server's tool to its end.

    :raises ServerFailed: it failed.
    """
    process = processes.spawn(command, log=log, env=env, as_nobody=True)
    try:
        code = process.wait(START_LIMIT)
    except subprocess.TimeoutExpired:
        processes.stop(process, limit=0)
        raise ServerFailed(f"{Path(command[0]).name} took more than {START_LIMIT:.0f} s{last_lines(log)}") from None
    processes.stop(process)
    if code != 0:
        raise ServerFailed(f"{Path(command[0]).name} ended with {code}{last_lines(log)}")


def wait_until(ready: Callable[[], bool], process: processes.Process, log: Path) -> None:
    """Wait until `ready` returns True.

    :raises ServerFailed: `process` ended, or 60 s have passed.
    """
    deadline = time.monotonic() + START_LIMIT
    while not ready():
        if process.poll() is not None:
            raise ServerFailed(f"the database server ended with {process.returncode}{last_lines(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"the database server did not answer within {START_LIMIT:.0f} s{last_lines(log)}")
        time.sleep(0.01)


def copy_template(template: Path, directory: Path) -> None:
    """Copy a template of data to a new instance's directory, keeping owners and modes.

    Blocks are shared if the file system can do that; blocks of zeros, which servers reserve, take up no space.

    :raises ServerFailed: they can't be copied, for instance as the disk is full.
    """
    cp = shutil.which("cp") or "/bin/cp"
    directory.mkdir(parents=True, exist_ok=True)
    command = [cp, "-a", "--reflink=auto", "--sparse=always", f"{template}/.", str(directory)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{template} could not be copied: {done.stderr.strip()[-300:]}")


def open_to_nobody(root: Path) -> None:
    """Let the user `nobody`, who runs the servers, pass through the directory `root` (made if missing).

    :raises ServerFailed: a directory above `root` is closed to `nobody`.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not processes.nobody_can_enter(root):
        root.chmod(root.stat().st_mode | 0o011)
    if not processes.nobody_can_enter(root):
        raise ServerFailed(f"the user nobody can't enter {root}: choose a directory below the temporary directory")


def socket_directory(root: Path, address: ServerAddress) -> Path:
    """Return the directory for the sockets of the server at an address, which only `nobody` and root can enter.

    It is apart from the data, since the path of a socket has at most 107 bytes.
    """
    directory = root / "sockets" / "{}-{}".format(*address.socket)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    processes.give_to_nobody(directory)
    return directory
