"""All measurements of `rdsiam proxy`, in front of servers with their own TLS."""

import shutil
import tempfile
from pathlib import Path

from bench.proxy import idle, mariadb, postgres
from bench.result import Result
from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.server import open_to_nobody


def run() -> list[Result]:
    """Measure latency, throughput, new connections, and memory."""
    root = Path(tempfile.mkdtemp(prefix="rdsiam-bench-"))
    processes.remove_when_we_end(root)
    open_to_nobody(root)
    authority = Authority(root / "ca")
    try:
        return [*postgres.run(root, authority), *idle.run(root, authority), *mariadb.run(root, authority)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
