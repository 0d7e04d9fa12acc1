"""`rdsiam proxy` in front of MariaDB with its own TLS: the proxy reads the header of each packet of a client."""

import os
import ssl
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pymysql

from bench.proxy import fronts
from bench.proxy.comparison import added, rounds, share
from bench.proxy.memory import MOST_GROWTH, resident, watched
from bench.proxy.programs import SYSTEM, program
from bench.result import Result
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.server import ServerAddress

USER, DATABASE = "app_service", "shop"
#: Every token is accepted: judging it takes as long for all.
TOKEN = "not-a-real-token&" * 64
QUERY_ROUNDS, QUERIES = 150, 50
LOAD_ROUNDS, LOAD_ROWS = 3, 1_000_000
#: Milliseconds that a query may take longer.
MOST_ADDED = 0.3
#: Share of the direct throughput.
LEAST_THROUGHPUT = 0.5


@dataclass(frozen=True)
class _Way:
    """Direct if there is an authority: with TLS and a token; else by the proxy."""

    port: int
    authority: Path | None

    def connect(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        """Return a new connection."""
        context = ssl.create_default_context(cafile=self.authority) if self.authority is not None else None
        password = TOKEN if context is not None else ""
        return pymysql.connect(
            host="localhost", port=self.port, user=USER, password=password, database=DATABASE, ssl=context,
            ssl_disabled=context is None,
        )  # fmt: skip

    def run(self, statement: str) -> float:
        """Return the seconds in which the `mariadb` program runs a statement and discards its result."""
        tls = ["--skip-ssl"]
        if self.authority is not None:
            tls = [f"--ssl-ca={self.authority}", "--ssl-verify-server-cert"]
        command = [
            *(program("mariadb"), "--no-defaults", "--local-infile", "--quick", "--protocol=TCP", "--host=localhost"),
            *(f"--port={self.port}", f"--user={USER}", *tls, f"--execute={statement}", DATABASE),
        ]
        environment = SYSTEM | ({"MYSQL_PWD": TOKEN} if self.authority is not None else {})
        with Path(os.devnull).open("wb") as discarded:
            began = time.perf_counter()
            subprocess.run(command, env=environment, stdout=discarded, check=True, timeout=600)
            return time.perf_counter() - began


def run(root: Path, authority: Authority) -> list[Result]:
    """Measure the latency of a query, and the throughput in both directions."""
    server = MariadbServer(
        root / "mariadb", ServerAddress.of_localhost(), "boss", "boss-password", DATABASE, authority, lambda *_: None
    )
    server.start()
    try:
        server.set_iam(True)
        _prepare(server)
        with fronts.proxy(root, authority, "mysql", server.address.port, TOKEN) as proxy:
            ways = [_Way(server.address.port, authority.path), _Way(proxy.port, None)]
            results = _latency(ways)
            ways[1].run("SELECT REPEAT('x', 1000000)")  # the proxy's buffers have their size after it
            before = resident(proxy.pid)
            with watched(proxy.pid) as seen:
                results += _throughput(ways, root)
            growth, name = max(seen) - before, "proxy, MariaDB: memory meanwhile"
            return [*results, Result(name, max(seen), "MB", "before", before, growth, at_most=MOST_GROWTH)]
    finally:
        server.stop()


def _prepare(server: MariadbServer) -> None:
    """Make the user and a table, and let clients load files."""
    with server._connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE USER {USER}@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
        cursor.execute(f"GRANT ALL ON {DATABASE}.* TO {USER}@'%'")
        cursor.execute(f"CREATE TABLE {DATABASE}.loaded (line TEXT) ENGINE = MyISAM")
        cursor.execute("SET GLOBAL local_infile = ON")


def _latency(ways: list[_Way]) -> list[Result]:
    connections = [way.connect() for way in ways]
    cursors = [connection.cursor() for connection in connections]

    def query(cursor: pymysql.cursors.Cursor) -> float:
        times = []
        for _ in range(QUERIES):
            began = time.perf_counter()
            cursor.execute("SELECT 1")
            cursor.fetchall()
            times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times)

    direct, proxy = rounds(cursors, QUERY_ROUNDS, query)
    for connection in connections:
        connection.close()
    return [added("proxy, MariaDB: query, added", proxy, direct, at_most=MOST_ADDED)]


def _throughput(ways: list[_Way], root: Path) -> list[Result]:
    file = root / "rows"
    file.write_text("".join(f"{'x' * 100}{number}\n" for number in range(LOAD_ROWS)))
    size = file.stat().st_size / 1e6
    load = f"TRUNCATE loaded; LOAD DATA LOCAL INFILE '{file}' INTO TABLE loaded"
    direct, proxy = rounds(ways, LOAD_ROUNDS, lambda way: size / way.run(load))
    direct_out, proxy_out = rounds(ways, LOAD_ROUNDS, lambda way: size / way.run("SELECT line FROM loaded"))
    return [
        share("proxy, MariaDB: LOAD DATA", "MB/s", proxy, direct, at_least=LEAST_THROUGHPUT),
        share("proxy, MariaDB: SELECT of all rows", "MB/s", proxy_out, direct_out, at_least=LEAST_THROUGHPUT),
    ]
