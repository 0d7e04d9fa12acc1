"""`rdsiam proxy` in front of PostgreSQL with its own TLS, beside a direct connection and HAProxy."""

from pathlib import Path

from bench.proxy import fronts, postgres_clients
from bench.proxy.comparison import added, rounds, share
from bench.proxy.memory import MOST_GROWTH, resident, watched
from bench.proxy.postgres_clients import Way
from bench.proxy.tls_postgres import PASSWORD, TlsPostgres
from bench.result import Result
from localcloud.core.certificates import Authority

#: Many rounds, over about 10 s, so that another program that runs for a moment doesn't decide.
QUERY_ROUNDS, QUERIES = 200, 50
COPY_ROUNDS, COPY_ROWS = 3, 2_000_000
PGBENCH_ROUNDS, PGBENCH_SECONDS, PGBENCH_CLIENTS = 3, 2, (1, 8, 32)
CONNECTION_ROUNDS = 40
#: Of about 108 bytes: 1 GB.
LARGE_ROWS = 9_300_000
#: Milliseconds that a query may take longer.
MOST_ADDED = 0.3
#: Share of the direct throughput of COPY.
LEAST_COPY = 0.5


def run(root: Path, authority: Authority) -> list[Result]:
    """Measure latency, new connections, throughput, and the memory while data pass."""
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
    direct, haproxy, proxy = postgres_clients.query_times(ways, QUERY_ROUNDS, QUERIES)
    return [
        added("proxy: query, added by HAProxy", haproxy, direct),
        added("proxy: query, added", proxy, direct, at_most=MOST_ADDED),
    ]


def _connections(ways: list[Way]) -> list[Result]:
    """Compare the median time of a new connection, for which the proxy signs a token."""
    direct, haproxy, proxy = postgres_clients.connection_times(ways, CONNECTION_ROUNDS)
    return [
        added("proxy: new connection, added by HAProxy", haproxy, direct),
        added("proxy: new connection, added", proxy, direct),
    ]


def _throughput(ways: list[Way]) -> list[Result]:
    """Compare `pgbench -S`."""
    postgres_clients.initialize_pgbench(ways[0])
    results = []
    for clients in PGBENCH_CLIENTS:
        rates = rounds(ways, PGBENCH_ROUNDS, lambda way: postgres_clients.pgbench(way, clients, PGBENCH_SECONDS))  # noqa: B023
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
    out = rounds(ways, COPY_ROUNDS, lambda way: size / postgres_clients.copy_out(way, COPY_ROWS))
    into = rounds(ways, COPY_ROUNDS, lambda way: size / postgres_clients.copy_in(way, file))
    file.unlink()
    return [
        share("proxy: COPY TO STDOUT, HAProxy", "MB/s", out[1], out[0]),
        share("proxy: COPY TO STDOUT", "MB/s", out[2], out[0], at_least=LEAST_COPY),
        share("proxy: COPY FROM STDIN, HAProxy", "MB/s", into[1], into[0]),
        share("proxy: COPY FROM STDIN", "MB/s", into[2], into[0], at_least=LEAST_COPY),
    ]


def _large_copy(way: Way, proxy: fronts.Front) -> list[Result]:
    """Measure how much the proxy grows while 1 GB passes, after as much that its buffers have their size."""
    postgres_clients.copy_out(way, LARGE_ROWS // 20)
    before = resident(proxy.pid)
    with watched(proxy.pid) as seen:
        postgres_clients.copy_out(way, LARGE_ROWS)
    growth = max(seen) - before
    return [Result("proxy: memory, 1 GB by COPY", max(seen), "MB", "before", before, growth, at_most=MOST_GROWTH)]
