"""The data that all PostgreSQL instances of a version start with."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from pathlib import Path

from localcloud.core import processes
from localcloud.databases.servers.postgres_programs import NEWEST, programs
from localcloud.databases.servers.postgres_settings import RDSADMIN
from localcloud.databases.servers.server import open_to_nobody, run_as_nobody

_NO_INSTRUCTIONS_FROM = 14
_WAL_SEGMENT = 1  # MB; a server has at least one, and the default is 16
_preparing = threading.Lock()


def prepare(root: Path, version: int = NEWEST) -> Path:
    """Make the template of data for all instances of a version below `root` once; return its directory.

    Later calls return at once. Instances call it themselves; an early call makes the first instance start fast.
    """
    template = root / f"postgres{version}.template"
    with _preparing:
        if template.exists():
            return template
        open_to_nobody(root)
        unfinished = root / f"postgres{version}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        password = unfinished / "password"
        password.touch(0o600)
        password.write_text(secrets.token_hex(32))
        processes.give_to_nobody(unfinished)
        run_as_nobody(
            [programs(root, version) / "initdb", "-D", unfinished / "data", "-U", RDSADMIN, "--pwfile", password,
             "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
             f"--wal-segsize={_WAL_SEGMENT}",
             *(["--no-instructions"] if version >= _NO_INSTRUCTIONS_FROM else [])],
            log=root / "initdb.log",
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
        )  # fmt: skip
        unfinished.rename(template)
        return template
