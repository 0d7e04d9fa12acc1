"""`rdsiam proxy` beside a direct connection and HAProxy, in front of a PostgreSQL server with its own TLS.

`python -m bench.proxy` measures it alone.
"""

import asyncio
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import proxy_load
from bench.proxy_load import Way
from bench.result import Result, show
from bench.tls_postgres import PASSWORD, TlsPostgres
from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.server import open_to_nobody

ROOT = Path(__file__).resolve().parent.parent
QUERY_ROUNDS, QUERIES = 60, 50
COPY_ROUNDS, COPY_ROWS = 3, 2_000_000
PGBENCH_ROUNDS, PGBENCH_SECONDS, PGBENCH_CLIENTS = 3, 2, (1, 8, 32)
CONNECTION_ROUNDS = 40
IDLE = 1000
#: Of about 108 bytes: 1 GB.
LARGE_ROWS = 9_300_000
#: Milliseconds that a query may take longer.
MOST_ADDED = 0.3
#: Share of the direct throughput of COPY.
LEAST_COPY = 0.5
#: MB that the proxy may grow by while 1 GB passes: buffers of one connection, and none of the data.
MOST_GROWTH = 8
#: KB of one idle connection: two sockets, TLS of one of them.
MOST_IDLE = 80
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
class _Front:
    """A process between clients and a server."""

    port: int
    pid: int


def run() -> list[Result]:
    """Measure latency, throughput, new connections, and memory."""
    root = Path(tempfile.mkdtemp(prefix="rdsiam-bench-"))
    processes.remove_when_we_end(root)
    open_to_nobody(root)
    authority = Authority(root / "ca")
    server = TlsPostgres(root / "postgres", authority)
    server.start()
    try:
        with _haproxy(root, server.port) as haproxy, _proxy(root, authority, server.port) as proxy:
            tls = {
                "host": "localhost",
                "hostaddr": "127.0.0.1",
                "password": PASSWORD,
                "sslmode": "verify-full",
                "sslrootcert": str(authority.path),
            }
            direct = Way("direct", tls | {"port": str(server.port)})
            by_haproxy = Way("HAProxy", tls | {"port": str(haproxy.port)})
            by_proxy = Way("proxy", {"host": "127.0.0.1", "port": str(proxy.port), "sslmode": "disable"})
            ways = [direct, by_haproxy, by_proxy]
            return [
                *_latency(ways),
                *_connections(ways),
                *_throughput(ways),
                *_copies(ways, root),
                *_large_copy(by_proxy, proxy),
                *_idle(root, authority),
            ]
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


def _latency(ways: list[Way]) -> list[Result]:
    """Compare the median of a query's time on connections that are open."""
    direct, haproxy, proxy = proxy_load.query_times(ways, QUERY_ROUNDS, QUERIES)
    return [
        _added("proxy: query, added by HAProxy", haproxy, direct),
        _added("proxy: query, added", proxy, direct, at_most=MOST_ADDED),
    ]


def _connections(ways: list[Way]) -> list[Result]:
    """Compare the median time of a new connection, for which the proxy signs a token."""
    direct, haproxy, proxy = proxy_load.connection_times(ways, CONNECTION_ROUNDS)
    return [
        _added("proxy: new connection, added by HAProxy", haproxy, direct),
        _added("proxy: new connection, added", proxy, direct),
    ]


def _added(name: str, times: list[float], direct: list[float], at_most: float | None = None) -> Result:
    """Return a result whose ratio is the difference: the median of that of each round."""
    added = statistics.median(time - baseline for time, baseline in zip(times, direct, strict=True))
    baseline = statistics.median(direct)
    return Result(name, baseline + added, "ms", "direct; ratio: ms added", baseline, added, at_most=at_most)


def _throughput(ways: list[Way]) -> list[Result]:
    """Compare `pgbench -S`."""
    proxy_load.initialize_pgbench(ways[0])
    results = []
    for clients in PGBENCH_CLIENTS:
        rates = _rounds(ways, PGBENCH_ROUNDS, lambda way: proxy_load.pgbench(way, clients, PGBENCH_SECONDS))  # noqa: B023
        name = f"proxy: pgbench -S, {clients} client{'s'[: clients - 1]}"
        results += [
            _share(f"{name}, HAProxy", "tps", rates[1], rates[0]),
            _share(name, "tps", rates[2], rates[0]),
        ]
    return results


def _copies(ways: list[Way], root: Path) -> list[Result]:
    """Compare the throughput of COPY in both directions."""
    file = root / "rows"
    file.write_text("".join(f"{'x' * 100}{number}\n" for number in range(COPY_ROWS)))
    size = file.stat().st_size / 1e6
    out = _rounds(ways, COPY_ROUNDS, lambda way: size / proxy_load.copy_out(way, COPY_ROWS))
    into = _rounds(ways, COPY_ROUNDS, lambda way: size / proxy_load.copy_in(way, file))
    file.unlink()
    return [
        _share("proxy: COPY TO STDOUT, HAProxy", "MB/s", out[1], out[0]),
        _share("proxy: COPY TO STDOUT", "MB/s", out[2], out[0], at_least=LEAST_COPY),
        _share("proxy: COPY FROM STDIN, HAProxy", "MB/s", into[1], into[0]),
        _share("proxy: COPY FROM STDIN", "MB/s", into[2], into[0], at_least=LEAST_COPY),
    ]


def _rounds(ways: list[Way], rounds: int, measure: Callable[[Way], float]) -> list[list[float]]:
    """Return the numbers of each way, which take turns."""
    results: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, numbers in zip(ways, results, strict=True):
            numbers.append(measure(way))
    return results


def _share(name: str, unit: str, numbers: list[float], direct: list[float], at_least: float | None = None) -> Result:
    """Return a result whose ratio is the median of that of each round."""
    ratio = statistics.median(number / baseline for number, baseline in zip(numbers, direct, strict=True))
    baseline = statistics.median(direct)
    return Result(name, ratio * baseline, unit, "direct", baseline, ratio, at_least=at_least)


def _large_copy(way: Way, proxy: _Front) -> list[Result]:
    """Measure how much the proxy grows while 1 GB passes, after as much that its buffers have their size."""
    proxy_load.copy_out(way, LARGE_ROWS // 20)
    before = proxy_load.resident(proxy.pid)
    with _watched(proxy.pid) as seen:
        proxy_load.copy_out(way, LARGE_ROWS)
    growth = max(seen) - before
    return [Result("proxy: memory, 1 GB by COPY", max(seen), "MB", "before", before, growth, at_most=MOST_GROWTH)]


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """Note the resident memory of a process every 20 ms."""
    seen: list[float] = [proxy_load.resident(pid)]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen.append(proxy_load.resident(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _idle(root: Path, authority: Authority) -> list[Result]:
    """Measure the memory of idle connections, with a stub as server: real ones have a process for each."""
    certificate = authority.issue(root / "stub")
    port = processes.free_port()
    stub = processes.spawn(
        [sys.executable, "-m", "bench.stub_postgres", str(port), certificate.certificate, certificate.key], cwd=ROOT
    )
    try:
        with _haproxy(root, port) as haproxy, _proxy(root, authority, port) as proxy:
            _wait_for(port, stub)
            baseline = asyncio.run(proxy_load.idle_connections(haproxy.port, IDLE, haproxy.pid, logged_in=False))
            gained = asyncio.run(proxy_load.idle_connections(proxy.port, IDLE, proxy.pid, logged_in=True))
    finally:
        processes.stop(stub)
    each, baseline_each = 1000 * gained / IDLE, 1000 * baseline / IDLE
    return [
        Result("proxy: memory of an idle connection", each, "KB", "HAProxy", baseline_each, each, at_most=MOST_IDLE)
    ]


@contextmanager
def _haproxy(root: Path, upstream: int) -> Iterator[_Front]:
    """Run HAProxy of the system's packages, in TCP mode."""
    port = processes.free_port()
    file = root / f"haproxy-{port}.cfg"
    file.write_text(_HAPROXY.format(port=port, upstream=upstream))
    process = processes.spawn([proxy_load.program("haproxy"), "-f", file, "-db"], log=root / "haproxy.log")
    try:
        _wait_for(port, process)
        yield _Front(port, process.pid)
    finally:
        processes.stop(process)


@contextmanager
def _proxy(root: Path, authority: Authority, upstream: int) -> Iterator[_Front]:
    """Run the proxy, as the command does but for its source of tokens."""
    port = processes.free_port()
    process = processes.spawn(
        [sys.executable, "-m", "bench.proxy_process", "postgres", str(port), str(upstream)],
        log=root / "proxy.log",
        env=proxy_load.SYSTEM
        | {"PYTHONPATH": "layers/rdsiam:.", "RDSIAM_CA": str(authority.path), "RDSIAM_BENCH_PASSWORD": PASSWORD},
        cwd=ROOT,
    )
    try:
        _wait_for(port, process)
        yield _Front(port, process.pid)
    finally:
        processes.stop(process)


def _wait_for(port: int, process: processes.Process) -> None:
    """Wait until a process listens at a port."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at port {port}")


if __name__ == "__main__":
    sys.exit(show(run()))
