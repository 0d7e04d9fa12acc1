"""Servers of each engine that judge tokens as RDS does, at the time that a clock tells which tests move."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from localcloud.core import processes
from localcloud.core.certificates import Authority
from localcloud.core.sigv4 import Credential
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.mysql import MysqlServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress
from localcloud.databases.token_verifier import TokenVerifier
from rdsiam.engines.logins import Password
from rdsiam.engines.mysql.connection import connect_mysql
from rdsiam.engines.postgres.connection import connect_postgres
from rdsiam.signer import Credentials
from rdsiam.tokens import trust
from tests.ground import folder_for_servers

REGION, ACCOUNT = "eu-west-1", "123456789012"
KEYS = Credentials("AKIDEXAMPLE", "the-secret-key")
USER = "app"
BOSS = Password("boss", "correct horse")
#: The servers' host. In small letters it means a socket to MySQL's library.
HERE = "LOCALHOST"
has_mysqlclient = pytest.mark.skipif(find_spec("MySQLdb") is None, reason="mysqlclient could not be built here")
_KINDS = {"postgres": PostgresServer, "mariadb": MariadbServer, "mysql": MysqlServer}


class Clock:
    """The present, moved at will."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    def later(self, **how: int) -> None:
        self.moved += timedelta(**how)

    def as_time(self) -> SimpleNamespace:
        """Return what takes the place of the signer's module `time`."""
        return SimpleNamespace(time=lambda: time.time() + self.moved.total_seconds(), gmtime=time.gmtime)


class TokenServers:
    """The servers, each started when it is first needed, with the user `app` and the database `shop`.

    :ivar logins: how many tokens were accepted.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.logins = 0
        self._root = folder_for_servers()
        processes.remove_when_we_end(self._root)
        self._authority = Authority(self._root / "ca")
        self.ca = str(self._authority.path)
        signer = Credential(KEYS.access_key, KEYS.secret_key, f"arn:aws:iam::{ACCOUNT}:user/app", ACCOUNT)
        known = {signer.access_key: signer}
        self._verifier = TokenVerifier(known.get, lambda *_: True, REGION, self.clock.now)
        self._started: dict[str, PostgresServer | MariadbServer | MysqlServer] = {}

    def port(self, kind: str) -> int:
        """Return the port of a server, which listens on localhost."""
        if kind not in self._started:
            self._start(kind)
        return self._started[kind].address.port

    @property
    def kinds(self) -> list[str]:
        """The kinds of servers that run."""
        return list(self._started)

    def server(self, kind: str) -> PostgresServer | MariadbServer | MysqlServer:
        """Return a server, to stop it and start it again."""
        self.port(kind)
        return self._started[kind]

    def _start(self, kind: str) -> None:
        address = ServerAddress.of_localhost()
        port = address.port

        def verify(user: str, token: str, tls: bool) -> None:
            self._verifier.verify(token, [("localhost", port)], user, "db-X", ACCOUNT, tls)
            self.logins += 1

        server = _KINDS[kind](self._root / kind, address, BOSS.user, BOSS.secret, "shop", self._authority, verify)
        server.start()
        self._started[kind] = server
        server.set_iam(True)
        if kind == "postgres":
            with connect_postgres("localhost", port, "shop", BOSS) as master:
                master.execute("CREATE ROLE app LOGIN")
                master.execute("GRANT rds_iam TO app")
            return
        with connect_mysql("localhost", port, BOSS) as session:
            session.cursor().execute("CREATE USER app IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
            session.cursor().execute("GRANT SELECT ON shop.* TO app")

    def stop(self) -> None:
        for server in self._started.values():
            server.stop()
        shutil.rmtree(self._root)


@contextmanager
def running() -> Iterator[TokenServers]:
    """Provide servers whose authority rdsiam trusts meanwhile."""
    servers = TokenServers()
    os.environ["RDSIAM_CA"] = servers.ca
    trust.ca_file.cache_clear()
    try:
        yield servers
    finally:
        del os.environ["RDSIAM_CA"]
        trust.ca_file.cache_clear()
        servers.stop()
