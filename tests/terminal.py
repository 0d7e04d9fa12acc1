"""A shell in a terminal of 80 columns, into which a test types what a person would paste."""

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

#: The shells as they are without anybody's settings.
SHELLS: Mapping[str, tuple[str, ...]] = {"bash": ("bash", "--norc", "--noprofile", "-i"), "zsh": ("zsh", "-f", "-i")}
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x00\x07\x08]")


@dataclass(frozen=True)
class Typed:
    """The outcome of what was typed."""

    output: str
    #: The exit codes of commands that failed, in their order.
    failures: tuple[int, ...]


class Terminal:
    """A context manager: leaving it hangs up, as closing the window does.

    :param shell: a key of `SHELLS`.
    :param environment: the whole environment, but for TERM.
    """

    def __init__(self, shell: str, environment: Mapping[str, str], directory: Path) -> None:
        self.shell = shell
        self._count = 0
        self._control, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        # setsid makes the terminal the controlling one, so that jobs and interrupts are as in a window.
        command = ["setsid", "--ctty", *SHELLS[shell]]
        self._process = subprocess.Popen(
            command, env={**environment, "TERM": "dumb"}, cwd=directory, stdin=other, stdout=other, stderr=other
        )
        os.close(other)

    def __enter__(self) -> Self:
        # The trap sees each command that fails, as interactive shells go on after one.
        self.type("PS1= PS2= PROMPT_EOL_MARK=; FAILURES=; trap 'FAILURES=\"$FAILURES $?\"' ERR\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)
        os.close(self._control)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def type(self, text: str, answers: Sequence[tuple[str, str]] = (), limit: float = 120.0) -> Typed:
        """Type lines, wait until all their commands have ended, and return what appeared.

        :param answers: what a program shows, as a regular expression, and what is typed then.
        """
        deadline = time.monotonic() + limit
        self._write(text)
        shown = ""
        for pattern, answer in answers:
            shown += self._read_until(pattern, deadline)
            self._write(answer)
        self._count += 1
        # The line that is typed doesn't contain what it prints.
        self._write(f'printf "\\n%s%s=%s=\\n" TYPED- {self._count} "$FAILURES"; FAILURES=\n')
        pattern = rf"\nTYPED-{self._count}=([0-9 ]*)="
        shown += self._read_until(pattern, deadline)
        found = re.search(pattern, shown)
        assert found
        return Typed(shown[: found.start()], tuple(int(code) for code in found[1].split()))

    def _write(self, text: str) -> None:
        os.write(self._control, text.encode())

    def _read_until(self, pattern: str, deadline: float) -> str:
        shown = ""
        while not re.search(pattern, shown):
            assert "command not found" not in shown, f"{self.shell}: {shown}"
            ready, _, _ = select.select([self._control], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{self.shell}: {pattern!r} did not appear; the terminal shows: {shown}"
            shown += _CONTROL.sub("", os.read(self._control, 65536).decode(errors="replace")).replace("\r", "")
        return shown


def missing(shell: str) -> str:
    """Return why a shell can't be tried on this machine, or nothing."""
    if shutil.which(SHELLS[shell][0]):
        return ""
    return f"{shell} is missing, so nothing is known about it: make setup installs it where apt-get may run"
