"""The `rdsiam` command in processes of its own, forked from one that has imported all that the command needs.

A process that imports it anew works for half a second before it begins. `tests/unit/command` starts it as a shell does.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from rdsiam.command import main
from tests.integration.children import CHILDREN, preload

preload(__name__)
for _module in ("app", "fast_token", "programs"):
    import_module(f"rdsiam.command.{_module}")


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    limit: float,
    given: str = "",
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command with these arguments and this environment, and no other, and return what it wrote.

    :param given: its standard input.
    """
    with tempfile.TemporaryDirectory(prefix="rdsiam-command-") as folder:
        streams = Path(folder, "in"), Path(folder, "out"), Path(folder, "err")
        for stream in streams:
            stream.write_text(given if stream.name == "in" else "")
        child = CHILDREN.Process(target=_become, args=(tuple(arguments), dict(environment), streams, directory))
        child.start()
        child.join(limit)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(list(arguments), limit, *(each.read_text() for each in streams[1:]))
        return subprocess.CompletedProcess(arguments, child.exitcode, *(each.read_text() for each in streams[1:]))


def _become(
    arguments: tuple[str, ...], environment: dict[str, str], streams: tuple[Path, ...], directory: Path | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if directory:
        os.chdir(directory)
    for descriptor, file in enumerate(streams):
        opened = os.open(file, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  multiprocessing has put the null device there
    sys.argv = ["rdsiam", *arguments]
    main()


def no_secret(done: "subprocess.CompletedProcess[str]") -> None:
    """Check that a command reported no token and no traceback."""
    assert "X-Amz-Signature" not in done.stderr
    assert "Traceback" not in done.stderr, done.stderr
