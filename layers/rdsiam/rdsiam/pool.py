"""For applications: a fresh token for each physical connection, over verified TLS, in the pool that they have already.

A token is needed to connect and never again: open connections outlive it. So nothing here renews tokens in the
background, and no token ends up in a URL. None of the libraries is needed before it is used.
"""

import ssl
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from rdsiam.core.extras import needs
from rdsiam.errors import InvalidRequest, RdsiamError
from rdsiam.signer import Credentials, TokenSigner
from rdsiam.tokens.endpoints import region_of
from rdsiam.tokens.trust import ca_for

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool
    from pymysql.connections import Connection
    from sqlalchemy import Engine

__all__ = [
    "Login",
    "NoCredentials",
    "async_psycopg_pool",
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
    :param region: of the database; read from the host's name where omitted.
    :param credentials: returns those to sign with, asked before each connection. By default the ordinary chain of
        AWS's SDK, looked up once; it renews temporary ones when less than 15 minutes are left, so that a token
        doesn't end before its time.
    :raises InvalidRequest: the region is not given, and the host's name tells none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        region: str | None = None,
        credentials: Callable[[], Credentials] | None = None,
    ) -> None:
        known_region = region or region_of(host)
        if known_region is None:
            raise InvalidRequest("region", f"must be given, as the name {host} tells none")
        self.host = host
        self.port = port
        self.user = user
        self._region = known_region
        self._credentials = credentials or _Chain()
        self._signer: tuple[Credentials, TokenSigner] | None = None

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
        """Return keyword arguments for one connection of psycopg: endpoint, user, fresh token, verified TLS."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.token(),
            "sslmode": "verify-full",
            "sslrootcert": ca_for(self.host),
            "gssencmode": "disable",  # or a Kerberos ticket would take the place of TLS
            "require_auth": "password",  # the token goes nowhere but where a token is asked for
        }

    def pymysql(self) -> dict[str, Any]:
        """Return keyword arguments for one connection of PyMySQL: endpoint, user, fresh token, verified TLS."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.token(),
            "ssl": _context(ca_for(self.host)),
        }


def sqlalchemy_engine(login: Login, driver: str, database: str, **options: Any) -> "Engine":
    """Return an SQLAlchemy engine whose connections log in by fresh tokens.

    :param driver: `postgresql+psycopg` or `mysql+pymysql`.
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

    Its URL needs no password; host, port, user and TLS are the login's, whatever the URL says.

    :raises InvalidRequest: it is the class of all engines, or its driver is neither psycopg nor PyMySQL.
    """
    with needs("sqlalchemy"):
        from sqlalchemy import event

    if isinstance(engine, type):
        raise InvalidRequest("engine", "must be one engine: the class would send this login to every database")
    engine = getattr(engine, "sync_engine", engine)
    arguments = {"psycopg": login.psycopg, "psycopg_async": login.psycopg, "pymysql": login.pymysql}.get(
        engine.dialect.driver
    )
    if arguments is None:
        raise InvalidRequest("engine", f"uses {engine.dialect.driver}; psycopg and pymysql are supported")

    def log_in(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
        parameters.update(arguments())

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


@cache
def _context(ca: str) -> ssl.SSLContext:
    """Return the context that verifies chain and host name against the authorities in `ca`."""
    context = ssl.create_default_context(cafile=ca)
    # See rdsiam.connection: a formality of Python 3.13 that no other client minds.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
