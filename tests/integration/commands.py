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

from tests.integration.children import CHILDREN, preload

preload(__name__)
for _module in ("app", "fast_token", "programs"):
    import_module(f"rdsiam.command.{_module}")


def run(arguments: Sequence[str], environment: Mapping[str, str], limit: float) -> subprocess.CompletedProcess[str]:
    """Run the command with these arguments and this environment, and no other, and return what it wrote."""
    with tempfile.TemporaryDirectory(prefix="rdsiam-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = CHILDREN.Process(target=_become, args=(tuple(arguments), dict(environment), out, err))
        child.start()
        child.join(limit)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(list(arguments), limit, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(arguments, child.exitcode, out.read_text(), err.read_text())


def _become(arguments: tuple[str, ...], environment: dict[str, str], out: Path, err: Path) -> None:
    from rdsiam.command import main

    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file, flags in (
        (0, Path(os.devnull), os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["rdsiam", *arguments]
    main()
