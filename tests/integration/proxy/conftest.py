"""Servers behind an API of the tests, and proxies in front of them."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from rdsiam.engines.mysql.connection import connect_mysql
from rdsiam.engines.postgres.connection import connect_postgres
from tests.integration.proxy.proxy_process import Printed, ProxyProcess, environment_of
from tests.integration.proxy.python_clients import LENGTH, ROWS
from tests.integration.proxy.token_api import TokenApi
from tests.integration.vending import token_servers
from tests.integration.vending.token_servers import BOSS, TokenServers


@pytest.fixture(scope="module")
def servers() -> Iterator[TokenServers]:
    with token_servers.running() as servers:
        yield servers


@pytest.fixture(scope="module")
def api(servers: TokenServers) -> Iterator[TokenApi]:
    with TokenApi(servers) as api:
        yield api


@pytest.fixture(scope="module")
def large_table(servers: TokenServers) -> Callable[[str], None]:
    """Make the table that clients read, and let `app` make tables of its own."""
    made: set[str] = set()

    def make(kind: str) -> None:
        if kind in made:
            return
        made.add(kind)
        port = servers.port(kind)
        if kind == "postgres":
            with connect_postgres("localhost", port, "shop", BOSS) as master:
                rows = f"SELECT i, repeat('x', {LENGTH}) AS t FROM generate_series(1, {ROWS}) i"
                master.execute(f"CREATE TABLE public.big AS {rows}")
                master.execute("GRANT SELECT ON public.big TO app")
                master.execute("GRANT CREATE ON SCHEMA public TO app")
            return
        digits = " CROSS JOIN ".join(f"(SELECT 0 d {'UNION ALL SELECT 0 ' * 9}) d{i}" for i in range(4))
        with connect_mysql("localhost", port, BOSS) as session:
            cursor = session.cursor()
            cursor.execute("CREATE TABLE shop.big (i INT AUTO_INCREMENT PRIMARY KEY, t VARCHAR(1000))")
            for _ in range(ROWS // 10_000):
                cursor.execute(f"INSERT INTO shop.big (t) SELECT repeat('x', {LENGTH}) FROM {digits}")
            session.commit()
            rights = "INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES"
            cursor.execute(f"GRANT {rights} ON shop.* TO app")

    return make


type StartProxy = Callable[..., ProxyProcess]


@pytest.fixture(scope="module")
def start_proxy(api: TokenApi, servers: TokenServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProxy]:
    """Start proxies, which end with the module at the latest.

    Names of its arguments are variables of the environment.
    """
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> ProxyProcess:
            folder = tmp_path_factory.mktemp("proxy")
            process = ProxyProcess(environment_of(api, servers, folder, **environment), folder, *arguments)
            return stack.enter_context(process)

        yield start


@pytest.fixture(scope="module")
def printed(start_proxy: StartProxy, large_table: Callable[[str], None]) -> Callable[[str], Printed]:
    """Return the lines that one proxy for PostgreSQL and MariaDB, and one for MySQL, print for a kind of server."""
    groups = (("postgres", "mariadb"), ("mysql",))
    running: dict[tuple[str, ...], ProxyProcess] = {}

    def lines(kind: str) -> Printed:
        group = next(group for group in groups if kind in group)
        if group not in running:
            for each in group:
                large_table(each)
            running[group] = start_proxy(*(f"{each}:0" for each in group), "-u", "app", "-d", "shop")
        return running[group].databases[kind]

    return lines


@pytest.fixture
def all_is_well(api, servers) -> Iterator[None]:
    """Let the API give tokens, and the clock be right, when a test begins; for files of tests that change either."""
    api.reset()
    servers.clock.moved *= 0
    return iter([None])


@pytest.fixture
def proxy(start_proxy, large_table, request) -> Iterator[Callable[..., ProxyProcess]]:
    """Start a proxy of its own for a test, and end it with the test."""
    started: list[ProxyProcess] = []

    def start(kind: str, *arguments: str, **environment: str) -> ProxyProcess:
        large_table(kind)
        place = () if "--config" in arguments else (kind,) if {"--socket", "--port"} & {*arguments} else (f"{kind}:0",)
        user = () if "-u" in arguments or "--config" in arguments else ("-u", "app")
        started.append(start_proxy(*place, *user, "-d", "shop", *arguments, **environment))
        return started[-1]

    yield start
    for process in started:
        process.__exit__(None, None, None)
