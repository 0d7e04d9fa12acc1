"""Child processes of localcloud: free ports, start, stop, and the guarantee that no child outlives localcloud."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pwd
import queue
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]

# Below the kernel's range for outgoing connections, so that no client takes a port between its choice and its use.
_PORTS = range(15000, 32000)
_taken: set[int] = set()
_taken_lock = threading.Lock()


def loopback_addresses() -> list[str]:
    """Return the addresses that a server for `localhost` listens on: 127.0.0.1, and ::1 if the machine has it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        return ["127.0.0.1", "::1"]
    return ["127.0.0.1"]


def free_port() -> int:
    """Return a TCP port that is free on every loopback address and that this process never returned before.

    :raises OSError: no free port was found.
    """
    addresses = loopback_addresses()
    with _taken_lock:
        for port in random.sample(_PORTS, k=500):
            if port not in _taken and all(_is_free(address, port) for address in addresses):
                _taken.add(port)
                return port
    raise OSError(errno.EADDRINUSE, "found no free TCP port on the loopback interface")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    as_nobody: bool = False,
    pipes: bool = False,
) -> Process:
    """Start a child that is killed when this process ends, in whichever way it ends.

    :param command: program and arguments.
    :param log: file that stdout (unless `pipes`) and stderr are appended to; discarded when omitted.
    :param env: the child's whole environment; this process's when omitted.
    :param cwd: the child's working directory; this process's when omitted.
    :param as_nobody: run as the user `nobody` if this process is root's (database servers refuse to run as root).
    :param pipes: make stdin and stdout of the child pipes, `process.stdin` and `process.stdout`.
    :raises FileNotFoundError: there is no `setpriv` (package util-linux).
    """
    setpriv = shutil.which("setpriv") or "/usr/bin/setpriv"
    prefix = [setpriv, "--pdeathsig", "KILL"]
    if as_nobody and os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        prefix += ["--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups"]

    def start() -> Process:
        with contextlib.ExitStack() as stack:
            output: int | IO[bytes] = subprocess.DEVNULL if log is None else stack.enter_context(log.open("ab"))
            return subprocess.Popen(
                [*prefix, *map(str, command)],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,  # this process handles a terminal's Ctrl-C and stops its children in order
            )

    process = _spawner().call(start)
    _reaper().tell("kill", str(process.pid))
    return process


def stop(process: Process, *, limit: float = 10.0, how: signal.Signals = signal.SIGTERM) -> None:
    """End a child and its own children: send the signal `how`, and kill after `limit` seconds. Blocks until done."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            logger.warning("process %s did not end within %s s and was killed", process.pid, limit)
    # The group may still hold grandchildren if the child itself has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    _reaper().tell("forget", str(process.pid))


@contextlib.contextmanager
def frozen(process: Process) -> Iterator[None]:
    """Stop all threads of a child inside the context."""
    process.send_signal(signal.SIGSTOP)
    try:
        while any(thread.read_text().rpartition(")")[2].split()[0] not in "TtZX" for thread in _threads(process.pid)):
            time.sleep(0.002)  # a thread stops when it next leaves the kernel
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _threads(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/task").glob("*/stat")


def remove_when_we_end(directory: Path) -> None:
    """Have `directory` removed after this process has ended, even if it is killed."""
    _reaper().tell("remove", str(directory.resolve()))


def nobody_can_enter(directory: Path) -> bool:
    """Tell whether children started `as_nobody` can reach the files in `directory`."""
    if os.geteuid() != 0:
        return True
    resolved = directory.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in [resolved, *resolved.parents])


def give_to_nobody(path: Path) -> None:
    """Make `nobody` the owner of `path` and all below it, if this process is root's."""
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody")
    for each in [path, *path.rglob("*")]:
        os.chown(each, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


class _Spawner:
    """The one thread that all children are forked from.

    The kernel sends a child its parent-death signal when the *thread* that forked it ends, so children must not be
    forked from threads that come and go. A daemon thread ends with the process and not before.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Process], Future[Process]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="spawner", daemon=True).start()

    def call(self, job: Callable[[], Process]) -> Process:
        done: Future[Process] = Future()
        self._jobs.put((job, done))
        return done.result()

    def _run(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except BaseException as error:  # the caller handles the error: this thread must live on
                done.set_exception(error)


class _Reaper:
    """A small process that reads orders from this one, and carries them out when this one has ended.

    `setpriv --pdeathsig` already kills the children; the reaper also kills their children, and removes directories.
    """

    def __init__(self) -> None:
        script = Path(__file__).with_name("reaper.py")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # inherited pipes would make their readers wait until the reaper has ended
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def tell(self, order: str, argument: str) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{order} {argument}\0".encode())
            self._process.stdin.flush()


@cache
def _spawner() -> _Spawner:
    return _Spawner()


@cache
def _reaper() -> _Reaper:
    return _Reaper()
