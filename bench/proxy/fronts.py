"""HAProxy and `rdsiam proxy` as processes between clients and a server."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.proxy.programs import SYSTEM, program
from localcloud.core import processes
from localcloud.core.certificates import Authority
from rdsiam.proxy.contracts import EngineName

ROOT = Path(__file__).resolve().parents[2]
_HAPROXY = """\
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen database
  bind 127.0.0.1:{port}
  server database 127.0.0.1:{upstream}
"""


@dataclass(frozen=True)
class Front:
    """A process between clients and a server."""

    port: int
    pid: int


@contextmanager
def haproxy(root: Path, upstream: int) -> Iterator[Front]:
    """Run HAProxy of the system's packages, in TCP mode."""
    port = processes.free_port()
    file = root / f"haproxy-{port}.cfg"
    file.write_text(_HAPROXY.format(port=port, upstream=upstream))
    process = processes.spawn([program("haproxy"), "-f", file, "-db"], log=root / "haproxy.log")
    try:
        wait_for(port, process)
        yield Front(port, process.pid)
    finally:
        processes.stop(process)


@contextmanager
def proxy(root: Path, authority: Authority, engine: EngineName, upstream: int, password: str) -> Iterator[Front]:
    """Run the proxy, as the command does but for its source of tokens."""
    port = processes.free_port()
    process = processes.spawn(
        [sys.executable, "-m", "bench.proxy.process", engine, str(port), str(upstream)],
        log=root / "proxy.log",
        env=SYSTEM
        | {"PYTHONPATH": "layers/rdsiam:.", "RDSIAM_CA": str(authority.path), "RDSIAM_BENCH_PASSWORD": password},
        cwd=ROOT,
    )
    try:
        wait_for(port, process)
        yield Front(port, process.pid)
    finally:
        processes.stop(process)


def wait_for(port: int, process: processes.Process) -> None:
    """Wait until a process listens at a port."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at port {port}")
