"""`rdsiam proxy` beside a direct connection and HAProxy, in front of servers with their own TLS.

`python -m bench.proxy` measures it alone.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from bench import proxy_fronts as fronts
from bench import proxy_load, proxy_mysql
from bench.proxy_comparison import added, rounds, share
from bench.proxy_load import Way
from bench.result import Result, show
from bench.tls_postgres import PASSWORD, TlsPostgres
from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.databases.servers.server import open_to_nobody

#: Many rounds, over about 10 s, so that another program that runs for a moment doesn't decide.
QUERY_ROUNDS, QUERIES = 200, 50
COPY_ROUNDS, COPY_ROWS = 3, 2_000_000
PGBENCH_ROUNDS, PGBENCH_SECONDS, PGBENCH_CLIENTS = 3, 2, (1, 8, 32)
CONNECTION_ROUNDS = 40
IDLE, IDLE_ROUNDS = 1000, 4
#: Of about 108 bytes: 1 GB.
LARGE_ROWS = 9_300_000
#: Milliseconds that a query may take longer.
MOST_ADDED = 0.3
#: Share of the direct throughput of COPY.
LEAST_COPY = 0.5
#: KB of one idle connection: two sockets, TLS of one of them.
MOST_IDLE = 80


def run() -> list[Result]:
    """Measure latency, throughput, new connections, and memory."""
    root = Path(tempfile.mkdtemp(prefix="rdsiam-bench-"))
    processes.remove_when_we_end(root)
    open_to_nobody(root)
    authority = Authority(root / "ca")
    try:
        return [*_postgres(root, authority), *_idle(root, authority), *proxy_mysql.run(root, authority)]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _postgres(root: Path, authority: Authority) -> list[Result]:
    server = TlsPostgres(root / "postgres", authority)
    server.start()
    try:
        with (
            fronts.haproxy(root, server.port) as haproxy,
            fronts.proxy(root, authority, "postgres", server.port, PASSWORD) as proxy,
        ):
            tls = {"host": "localhost", "hostaddr": "127.0.0.1", "password": PASSWORD, "sslmode": "verify-full"}
            tls |= {"sslrootcert": str(authority.path)}
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
            ]
    finally:
        server.stop()


def _latency(ways: list[Way]) -> list[Result]:
    """Compare the median of a query's time on connections that are open."""
    direct, haproxy, proxy = proxy_load.query_times(ways, QUERY_ROUNDS, QUERIES)
    return [
        added("proxy: query, added by HAProxy", haproxy, direct),
        added("proxy: query, added", proxy, direct, at_most=MOST_ADDED),
    ]


def _connections(ways: list[Way]) -> list[Result]:
    """Compare the median time of a new connection, for which the proxy signs a token."""
    direct, haproxy, proxy = proxy_load.connection_times(ways, CONNECTION_ROUNDS)
    return [
        added("proxy: new connection, added by HAProxy", haproxy, direct),
        added("proxy: new connection, added", proxy, direct),
    ]


def _throughput(ways: list[Way]) -> list[Result]:
    """Compare `pgbench -S`."""
    proxy_load.initialize_pgbench(ways[0])
    results = []
    for clients in PGBENCH_CLIENTS:
        rates = rounds(ways, PGBENCH_ROUNDS, lambda way: proxy_load.pgbench(way, clients, PGBENCH_SECONDS))  # noqa: B023
        name = f"proxy: pgbench -S, {clients} client{'s'[: clients - 1]}"
        results += [
            share(f"{name}, HAProxy", "tps", rates[1], rates[0]),
            share(name, "tps", rates[2], rates[0]),
        ]
    return results


def _copies(ways: list[Way], root: Path) -> list[Result]:
    """Compare the throughput of COPY in both directions."""
    file = root / "rows"
    file.write_text("".join(f"{'x' * 100}{number}\n" for number in range(COPY_ROWS)))
    size = file.stat().st_size / 1e6
    out = rounds(ways, COPY_ROUNDS, lambda way: size / proxy_load.copy_out(way, COPY_ROWS))
    into = rounds(ways, COPY_ROUNDS, lambda way: size / proxy_load.copy_in(way, file))
    file.unlink()
    return [
        share("proxy: COPY TO STDOUT, HAProxy", "MB/s", out[1], out[0]),
        share("proxy: COPY TO STDOUT", "MB/s", out[2], out[0], at_least=LEAST_COPY),
        share("proxy: COPY FROM STDIN, HAProxy", "MB/s", into[1], into[0]),
        share("proxy: COPY FROM STDIN", "MB/s", into[2], into[0], at_least=LEAST_COPY),
    ]


def _large_copy(way: Way, proxy: fronts.Front) -> list[Result]:
    """Measure how much the proxy grows while 1 GB passes, after as much that its buffers have their size."""
    proxy_load.copy_out(way, LARGE_ROWS // 20)
    before = proxy_load.resident(proxy.pid)
    with proxy_load.watched(proxy.pid) as seen:
        proxy_load.copy_out(way, LARGE_ROWS)
    growth = max(seen) - before
    return [
        Result("proxy: memory, 1 GB by COPY", max(seen), "MB", "before", before, growth, at_most=proxy_load.MOST_GROWTH)
    ]


def _idle(root: Path, authority: Authority) -> list[Result]:
    """Measure the memory of idle connections, with a stub as server: real ones have a process for each."""
    certificate = authority.issue(root / "stub")
    port = processes.free_port()
    stub = processes.spawn(
        [sys.executable, "-m", "bench.stub_postgres", str(port), certificate.certificate, certificate.key],
        cwd=fronts.ROOT,
    )
    try:
        fronts.wait_for(port, stub)
        with (
            fronts.haproxy(root, port) as haproxy,
            fronts.proxy(root, authority, "postgres", port, PASSWORD) as proxy,
        ):
            others = -proxy_load.resident(haproxy.pid)
            others += asyncio.run(proxy_load.idle_connections(haproxy.port, IDLE, haproxy.pid, logged_in=False))
            before = proxy_load.resident(proxy.pid)
            first, *_, last = (
                asyncio.run(proxy_load.idle_connections(proxy.port, IDLE, proxy.pid, logged_in=True))
                for _ in range(IDLE_ROUNDS)
            )
    finally:
        processes.stop(stub)
    each, others_each = 1000 * (first - before) / IDLE, 1000 * others / IDLE
    name, again = "proxy: memory of an idle connection", f"proxy: memory, {IDLE_ROUNDS * IDLE:,} connections"
    return [
        Result(name, each, "KB", "HAProxy", others_each, each, at_most=MOST_IDLE),
        Result(again, last, "MB", f"the first {IDLE:,}", first, last - first, at_most=proxy_load.MOST_GROWTH),
    ]


if __name__ == "__main__":
    sys.exit(show(run()))
