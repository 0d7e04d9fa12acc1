"""For applications: a fresh token for each physical connection, over verified TLS, in the pool that they have already.

A token is needed to connect and never again: open connections outlive it. So nothing here renews tokens in the
background, and no token ends up in a URL. None of the libraries is needed before it is used.
"""

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from rdsiam.core.extras import needs
from rdsiam.errors import InvalidRequest, NoSuchEndpoint, RdsiamError
from rdsiam.signer import Credentials, TokenSigner
from rdsiam.tokens import drivers
from rdsiam.tokens.database_endpoints import describe, look_up
from rdsiam.tokens.endpoints import region_of
from rdsiam.tokens.trust import ca_for

if TYPE_CHECKING:
    from aiomysql import Pool
    from mysql.connector.pooling import MySQLConnectionPool
    from psycopg2.extensions import connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
    from pymysql.connections import Connection
    from sqlalchemy import Engine

__all__ = [
    "Login",
    "NoCredentials",
    "aiomysql_pool",
    "async_psycopg_pool",
    "mysql_connector_pool",
    "psycopg2_connection",
    "psycopg_pool",
    "pymysql_connect",
    "sqlalchemy_engine",
    "use_tokens",
]


class NoCredentials(RdsiamError):
    """No AWS credentials were found to sign with."""

    code = "no-credentials"


class Login:
    """A database user at an endpoint, logging in by tokens that are signed here. Any number of threads may share it.

    :param host: the endpoint as RDS reports it, no CNAME and no tunnel.
    :param port: its port.
    :param user: the database user.
    :param region: of the database. By default the host's name tells it; for other names, such as a tunnel's,
        AWS_REGION or AWS_DEFAULT_REGION.
    :param credentials: returns those to sign with, asked before each connection. By default the ordinary chain of
        AWS's SDK, looked up once; it renews temporary ones when less than 15 minutes are left, so that a token
        doesn't end before its time.
    :raises InvalidRequest: the region is not given, and neither the host's name nor the environment tells it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        region: str | None = None,
        credentials: Callable[[], Credentials] | None = None,
    ) -> None:
        known_region = region or region_of(host) or _region_of_environment()
        if known_region is None:
            raise InvalidRequest("region", f"must be given, as neither the name {host} nor AWS_REGION tells it")
        self.host = host
        self.port = port
        self.user = user
        self._region = known_region
        self._credentials = credentials or _Chain()
        self._signer: tuple[Credentials, TokenSigner] | None = None

    @classmethod
    def to(
        cls,
        database: str,
        user: str,
        endpoint: str = "writer",
        region: str | None = None,
        credentials: Callable[[], Credentials] | None = None,
    ) -> Self:
        """Return the login to an endpoint of a database, which RDS is asked for once.

        The role needs `rds:DescribeDBClusters` and `rds:DescribeDBInstances`; for a cluster also
        `rds:DescribeDBClusterEndpoints`, for a proxy `rds:DescribeDBProxies` and `rds:DescribeDBProxyEndpoints`.

        :param database: identifier of an instance, a cluster or a proxy; of the first two also the ARN.
        :param endpoint: `writer`, `reader`, or the name of a custom endpoint, of an instance, of a proxy's endpoint.
        :param region: of the database; that of the environment or profile by default.
        :param credentials: of tokens, as Login has them; RDS is asked with the ordinary chain.
        :raises DatabaseNotFound: there is no such database.
        :raises NoSuchEndpoint: the database has no such endpoint; the message names those that it has.
        """
        from botocore.session import Session

        rds = Session().create_client("rds", region_name=region or _region_of_environment())
        try:
            found = describe(rds, look_up(rds, database)).choose(endpoint)
        except NoSuchEndpoint as error:
            raise NoSuchEndpoint(f"{database}: {error.problem}", error.remedy) from None
        return cls(found.host, found.port, user, rds.meta.region_name, credentials)

    def __repr__(self) -> str:
        return f"Login({self.host!r}, {self.port!r}, {self.user!r})"

    def token(self) -> str:
        """Return a token signed now. For one connection: ask again for the next."""
        credentials = self._credentials()
        signer = self._signer
        if signer is None or signer[0] != credentials:
            # Threads may race here: each goes on with a whole signer, and one of them is kept.
            signer = self._signer = (credentials, TokenSigner(credentials, self._region))
        return signer[1].token(self.host, self.port, self.user)

    def psycopg(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of psycopg 3: endpoint, user, fresh token, verified TLS."""
        with needs("postgres"):
            from psycopg.pq import version

        return drivers.libpq(*self._endpoint, self.token(), version())

    def psycopg2(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of psycopg2."""
        from psycopg2.extensions import libpq_version

        return drivers.libpq(*self._endpoint, self.token(), libpq_version())

    def asyncpg(self) -> dict[str, Any]:
        """Return keyword arguments for asyncpg and its pools, which ask for a token each time they connect."""
        return self._plain(drivers.context(ca_for(self.host))) | {"password": self._token_in_thread}

    def pymysql(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of PyMySQL: endpoint, user, fresh token, verified TLS."""
        return self._plain(drivers.context(ca_for(self.host))) | {"password": self.token()}

    def mysqlclient(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of mysqlclient (`MySQLdb`)."""
        return drivers.mysqlclient(*self._endpoint, self.token())

    def mysql_connector(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of mysql-connector-python."""
        return drivers.mysql_connector(*self._endpoint, self.token())

    def aiomysql(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of aiomysql, and for no second one."""
        return drivers.aiomysql(*self._endpoint, self.token())

    def asyncmy(self) -> dict[str, Any]:
        """Return keyword arguments for asyncmy and its pools, which ask for a token each time they connect."""
        return self._plain(drivers.context(ca_for(self.host))) | {"password_creator": self._token_in_thread}

    @property
    def _endpoint(self) -> tuple[str, int, str]:
        return self.host, self.port, self.user

    def _plain(self, ssl: object) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "user": self.user, "ssl": ssl}

    async def _token_in_thread(self) -> str:
        """Return a token; if credentials have to be renewed, the event loop doesn't wait for it."""
        import asyncio  # 50 ms that a program without it needn't wait for

        return await asyncio.to_thread(self.token)


#: SQLAlchemy's name of a driver → the method that returns its arguments.
_ARGUMENTS: Mapping[str, Callable[[Login], dict[str, Any]]] = {
    "aiomysql": Login.aiomysql,
    "asyncmy": Login.asyncmy,
    "asyncpg": Login.asyncpg,
    "mysqlconnector": Login.mysql_connector,
    "mysqldb": Login.mysqlclient,
    "psycopg": Login.psycopg,
    "psycopg2": Login.psycopg2,
    "psycopg_async": Login.psycopg,
    "pymysql": Login.pymysql,
}


def sqlalchemy_engine(login: Login, driver: str, database: str, **options: Any) -> "Engine":
    """Return an SQLAlchemy engine whose connections log in by fresh tokens.

    :param driver: such as `postgresql+psycopg` or `mysql+pymysql`; use_tokens names all.
    :param options: of `sqlalchemy.create_engine`.
    """
    with needs("sqlalchemy"):
        from sqlalchemy import URL, create_engine

    url = URL.create(driver, username=login.user, host=login.host, port=login.port, database=database)
    engine = create_engine(url, **options)
    use_tokens(engine, login)
    return engine


def use_tokens(engine: Any, login: Login) -> None:
    """Let each new connection of one engine, sync or async, log in by a fresh token.

    Drivers: psycopg, psycopg2, asyncpg; pymysql, mysqldb, mysqlconnector, aiomysql, asyncmy. The engine's URL needs no
    password; host, port, user and TLS are the login's, whatever the URL says.

    :raises InvalidRequest: it is the class of all engines, or its driver is another.
    """
    with needs("sqlalchemy"):
        from sqlalchemy import event
        from sqlalchemy.util import await_only

    if isinstance(engine, type):
        raise InvalidRequest("engine", "must be one engine: the class would send this login to every database")
    engine = getattr(engine, "sync_engine", engine)
    arguments = _ARGUMENTS.get(engine.dialect.driver)
    if arguments is None:
        raise InvalidRequest("engine", f"uses {engine.dialect.driver}; supported are {', '.join(sorted(_ARGUMENTS))}")

    def log_in(dialect: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
        if not dialect.is_async:
            parameters.update(arguments(login))
            return
        import asyncio

        # Credentials may have to be renewed: the event loop doesn't wait for it.
        parameters.update(await_only(asyncio.to_thread(arguments, login)))

    event.listen(engine, "do_connect", log_in)


def psycopg_pool(login: Login, database: str, **options: Any) -> "ConnectionPool":
    """Return a psycopg_pool.ConnectionPool (3.3 or newer) whose connections log in by fresh tokens.

    :param options: of the pool; `kwargs` are further arguments of the connections, TLS and login excepted.
    """
    with needs("postgres"):
        from psycopg_pool import ConnectionPool

    return ConnectionPool(kwargs=_each_time(login, database, options), **options)


def async_psycopg_pool(login: Login, database: str, **options: Any) -> "AsyncConnectionPool":
    """Return a psycopg_pool.AsyncConnectionPool; see psycopg_pool.

    Where credentials have to be renewed, that is done in a thread: the event loop doesn't wait for it.
    """
    import asyncio

    with needs("postgres"):
        from psycopg_pool import AsyncConnectionPool

    arguments = _each_time(login, database, options)

    async def in_a_thread() -> dict[str, Any]:
        return await asyncio.to_thread(arguments)

    return AsyncConnectionPool(kwargs=in_a_thread, **options)


def pymysql_connect(login: Login, database: str | None = None, **options: Any) -> "Callable[[], Connection[Any]]":
    """Return a function that opens a connection, with a fresh token each time: for any pool that takes a creator.

    :param options: of `pymysql.connect`, TLS and login excepted.
    """
    with needs("mysql"):
        import pymysql

    return lambda: pymysql.connect(**{"charset": "utf8mb4", **options, "database": database, **login.pymysql()})


def psycopg2_connection(login: Login) -> "type[connection]":
    """Return a `connection_factory` for psycopg2 and its pools, which opens each connection with a fresh token."""
    from psycopg2.extensions import connection, make_dsn

    class TokenConnection(connection):  # type: ignore[misc]  # psycopg2 has no types
        """A connection whose endpoint, user, token and TLS are the login's."""

        def __init__(self, dsn: str, *arguments: Any, **options: Any) -> None:
            super().__init__(make_dsn(dsn, **login.psycopg2()), *arguments, **options)

    return TokenConnection


def mysql_connector_pool(login: Login, database: str, **options: Any) -> "MySQLConnectionPool":
    """Return a pool of mysql-connector-python, whose connections log in, and log in again, by fresh tokens.

    :param options: of the pool, and further arguments of the connections, TLS and login excepted.
    """
    from mysql.connector.pooling import MySQLConnectionPool

    class TokenPool(MySQLConnectionPool):  # type: ignore[misc]  # its types aren't followed
        """A pool that reads its arguments anew for each connection."""

        @property
        def _cnx_config(self) -> dict[str, Any]:
            return {**self._further, **login.mysql_connector()}

        @_cnx_config.setter
        def _cnx_config(self, further: dict[str, Any]) -> None:
            self._further = further

    return TokenPool(**{"pool_name": "rdsiam", **options, "database": database, **login.mysql_connector()})


async def aiomysql_pool(login: Login, database: str, minsize: int = 1, maxsize: int = 10, **options: Any) -> "Pool":
    """Return a pool of aiomysql whose connections log in by fresh tokens.

    :param options: of the pool, and further arguments of the connections, TLS and login excepted.
    """
    import asyncio

    from aiomysql import Pool

    class TokenPool(Pool):  # type: ignore[misc]  # aiomysql has no types
        """A pool that reads its arguments anew for each connection."""

        @property
        def _conn_kwargs(self) -> dict[str, Any]:
            return {**self._further, **login.aiomysql()}

        @_conn_kwargs.setter
        def _conn_kwargs(self, further: dict[str, Any]) -> None:
            self._further = further

    running = {"echo": False, "pool_recycle": -1, "loop": asyncio.get_running_loop()}
    pool = TokenPool(minsize, maxsize, **{**running, "charset": "utf8mb4", **options, "db": database})
    async with pool.acquire():  # credentials, network or rights that are missing show at once
        pass
    return pool


def _region_of_environment() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None


def _each_time(login: Login, database: str, options: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    further = options.pop("kwargs", {})
    return lambda: {**further, "dbname": database, **login.psycopg()}


class _Chain:
    """The ordinary credential chain, looked up when first asked: after a fork, and never twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: Any = None

    def __call__(self) -> Credentials:
        with self._lock:
            if self._found is None:
                from botocore.session import Session

                self._found = Session().get_credentials()
        if self._found is None:
            raise NoCredentials("no AWS credentials: give the process a role, or set AWS_PROFILE")
        # Renews them with less than 15 minutes left, which is as long as a token lives.
        now = self._found.get_frozen_credentials()
        return Credentials(now.access_key, now.secret_key, now.token)
