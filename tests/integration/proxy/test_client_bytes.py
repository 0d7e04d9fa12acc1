"""Gigabytes through the proxy, and clients and servers that are slow: its memory stays flat, and every byte arrives."""

import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg
import pymysql
import pytest

from tests.ground import folder_for_servers
from tests.integration.proxy.proxy_process import Printed, ProxyProcess
from tests.integration.proxy.python_clients import parameters
from tests.kinds import MYSQL_EXHAUSTIVE

MEGABYTE = 1 << 20
#: Megabytes that the proxy may need for a few connections, however much goes through them.
ROOM = 12
SIZES = [32, pytest.param(1024, marks=pytest.mark.stress)]
#: A line of text that no compression or cache shortens, one for each number.
LINE = 1000


class Memory:
    """The highest memory of a process during a block, above that at its beginning.

    A context manager.
    """

    def __init__(self, process: ProxyProcess) -> None:
        self._process = process
        self._before = process.memory
        self._highest = self._before
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watching.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._highest = max(self._highest, self._process.memory)

    @property
    def grown(self) -> float:
        """Megabytes."""
        return (self._highest - self._before) / MEGABYTE


@pytest.fixture(scope="module")
def proxies() -> dict[str, ProxyProcess]:
    """Return the proxies that have been started, by the kind of server."""
    return {}


@pytest.fixture
def proxy(request, proxies, start_proxy, large_table, servers) -> ProxyProcess:
    """Return the proxy in front of a server of the test's kind."""
    kind = request.param
    if kind not in proxies:
        large_table(kind)
        if kind != "postgres":
            with servers.server(kind)._connect() as administrator, administrator.cursor() as cursor:
                cursor.execute("SET GLOBAL local_infile = ON")
        proxies[kind] = start_proxy(f"{kind}:0", "-u", "app", "-d", "shop")
    return proxies[kind]


def printed_by(process: ProxyProcess) -> Printed:
    """Return the lines for the proxy's only database."""
    (printed,) = process.databases.values()
    return printed


def lines(count: int) -> Iterator[bytes]:
    """Yield lines of `LINE` bytes, all different."""
    for number in range(count):
        word = hashlib.sha256(str(number).encode()).hexdigest().encode()
        yield (word * (LINE // len(word) + 1))[: LINE - 1] + b"\n"


@pytest.fixture
def file_of(tmp_path) -> Iterator[Any]:
    """Make a file with this many megabytes of lines, where the servers' data are."""
    folder = folder_for_servers()
    made: list[Path] = []

    def make(megabytes: int) -> Path:
        path = folder / f"{megabytes}"
        with path.open("wb") as file:
            file.writelines(lines(megabytes * MEGABYTE // LINE))
        made.append(path)
        return path

    yield make
    for path in made:
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("proxy", ["postgres"], indirect=True)
@pytest.mark.parametrize("megabytes", SIZES)
def test_copy_moves_every_byte_with_flat_memory(proxy, megabytes):
    count = megabytes * MEGABYTE // LINE
    sent, received = hashlib.sha256(), hashlib.sha256()
    with psycopg.connect(printed_by(proxy).url, autocommit=True) as session, Memory(proxy) as memory:
        session.execute("CREATE UNLOGGED TABLE copied (number bigserial, line text)")
        try:
            with session.cursor().copy("COPY copied (line) FROM STDIN") as copy:
                for line in lines(count):
                    sent.update(line)
                    copy.write(line)
            with session.cursor().copy("COPY (SELECT line FROM copied ORDER BY number) TO STDOUT") as copy:
                for data in copy:
                    received.update(data)
        finally:
            session.execute("DROP TABLE copied")
    assert received.digest() == sent.digest()
    assert memory.grown < ROOM


@pytest.mark.parametrize("proxy", ["mariadb", MYSQL_EXHAUSTIVE], indirect=True)
@pytest.mark.parametrize("megabytes", SIZES)
def test_load_data_moves_every_byte_with_flat_memory(proxy, file_of, megabytes):
    file = file_of(megabytes)
    place = parameters(printed_by(proxy).url)
    with (
        pymysql.connect(**place, autocommit=True, local_infile=True, cursorclass=pymysql.cursors.SSCursor) as session,
        session.cursor() as cursor,
        Memory(proxy) as memory,
    ):
        cursor.execute("CREATE TABLE loaded (number BIGINT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(1000))")
        try:
            cursor.execute(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE loaded (line)")
            received = hashlib.sha256()
            cursor.execute("SELECT line FROM loaded ORDER BY number")
            for (line,) in cursor:
                received.update(line.encode() + b"\n")
        finally:
            cursor.execute("DROP TABLE loaded")
    with file.open("rb") as source:
        assert received.digest() == hashlib.file_digest(source, "sha256").digest()
    assert memory.grown < ROOM


@pytest.mark.parametrize("proxy", ["postgres"], indirect=True)
def test_a_client_that_reads_slowly_holds_its_server_back(proxy):
    """The client takes the first row of many megabytes, and rests."""
    other = psycopg.connect(printed_by(proxy).url, autocommit=True)
    with psycopg.connect(printed_by(proxy).url, autocommit=True) as session, Memory(proxy) as memory:
        query = "COPY (SELECT repeat('x', 10000) FROM generate_series(1, 10000)) TO STDOUT"
        with session.cursor().copy(query) as copy:
            size = len(copy.read())
            rest = time.monotonic() + 2
            while time.monotonic() < rest:
                assert other.execute("SELECT 1").fetchone() == (1,), "others are served in the meantime"
            size += sum(len(data) for data in copy)
    other.close()
    assert size == 10_000 * 10_001
    assert memory.grown < ROOM


@pytest.mark.parametrize("proxy", ["mariadb", MYSQL_EXHAUSTIVE], indirect=True)
def test_a_client_of_mysql_that_reads_slowly_holds_its_server_back(proxy):
    place = parameters(printed_by(proxy).url)
    with (
        pymysql.connect(**place, cursorclass=pymysql.cursors.SSCursor) as session,
        session.cursor() as cursor,
        Memory(proxy) as memory,
    ):
        cursor.execute("SELECT repeat('x', 10000) FROM big LIMIT 10000")
        first = cursor.fetchone()
        time.sleep(1)
        rest = sum(len(text) for (text,) in cursor)
    assert first == ("x" * 10_000,)
    assert rest == 9_999 * 10_000
    assert memory.grown < ROOM


@pytest.mark.parametrize("proxy", ["postgres"], indirect=True)
def test_a_server_that_takes_slowly_holds_its_client_back(proxy, servers):
    with psycopg.connect(printed_by(proxy).url, autocommit=True) as session, Memory(proxy) as memory:
        session.execute("CREATE TEMPORARY TABLE t (line text)")
        process = psutil.Process(session.info.backend_pid)
        with session.cursor().copy("COPY t FROM STDIN") as copy:
            process.send_signal(signal.SIGSTOP)
            threading.Timer(2, process.send_signal, (signal.SIGCONT,)).start()
            for line in lines(100 * MEGABYTE // LINE):
                copy.write(line)
        assert session.execute("SELECT count(*) FROM t").fetchone() == (100 * MEGABYTE // LINE,)
    assert memory.grown < ROOM
