"""The cost of reading a database with 10,000 users: against the bare queries and the fetch of the same rows."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg.types.string import TextLoader

from bench.result import Result
from localcloud.core.certificates import Authority
from localcloud.databases.servers.mariadb import MariadbServer
from localcloud.databases.servers.postgres import PostgresServer
from localcloud.databases.servers.server import ServerAddress
from rdsiam.aws.rds import Database
from rdsiam.engines.logins import AUDITOR, MANAGER, Login, Password, Token
from rdsiam.engines.mysql import audit_procedure
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.engine import Mysql
from rdsiam.engines.postgres import audit, catalog
from rdsiam.engines.postgres.connection import PostgresSession
from rdsiam.engines.postgres.engine import Postgres
from rdsiam.engines.protocols import DesiredState, Engine, Session, Sessions
from rdsiam.tokens import trust

USERS = 10_000
ROUNDS = 25
_MASTER, _PASSWORD = "boss", "correct horse battery"
#: A third of the users log in by token, half of these through a group; the others have passwords.
_ON_POSTGRES = (
    "CREATE ROLE of_the_team; GRANT rds_iam TO of_the_team",
    f"""
DO $$ BEGIN
    FOR n IN 1 .. {USERS} LOOP
        EXECUTE format('CREATE ROLE user_%s LOGIN', n);
        IF n % 6 = 0 THEN EXECUTE format('GRANT rds_iam TO user_%s', n);
        ELSIF n % 3 = 0 THEN EXECUTE format('GRANT of_the_team TO user_%s', n);
        END IF;
    END LOOP;
END $$
""",
)
#: The same, each with privileges on a schema.
_ON_MARIADB = (
    f"""
INSERT INTO mysql.global_priv (Host, User, Priv)
SELECT '%', CONCAT('user_', seq), IF(seq % 3 = 0,
    '{{"access":0,"version_id":101119,"plugin":"AWSAuthenticationPlugin","authentication_string":"RDS","ssl_type":1}}',
    '{{"access":0,"version_id":101119,"plugin":"mysql_native_password","password_last_changed":1700000000,
    "authentication_string":"*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"}}')
FROM mysql.seq_1_to_{USERS}
""",
    f"""
INSERT INTO mysql.db (Host, Db, User, Select_priv, Show_view_priv)
SELECT '%', 'shop', CONCAT('user_', seq), 'Y', 'Y' FROM mysql.seq_1_to_{USERS}
""",
    "FLUSH PRIVILEGES",
)


def run() -> list[Result]:
    """Measure both engines, each in turns with its bare queries, in one session each; medians over the rounds.

    The bare queries are the audit's own, fetched by the driver into plain rows of its own types, and dropped.
    """
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rdsiam-bench-")))
        authority = Authority(root / "ca")
        os.environ["RDSIAM_CA"] = authority.pem
        trust.ca_file.cache_clear()
        postgres = stack.enter_context(_database("postgres", root, authority))
        mariadb = stack.enter_context(_database("mariadb", root, authority))
        return [
            _compare("audit-10000-postgres", Postgres(), postgres, bare_postgres),
            _compare("audit-10000-mariadb", Mysql(), mariadb, _bare_mariadb),
        ]


def _compare[SessionT: Session](
    name: str, engine: Engine[SessionT], database: Database, bare: Callable[[SessionT], int]
) -> Result:
    _onboard(engine, database)
    token = Token(AUDITOR, "any")
    session, plain = (engine.connect(database, token, None) for _ in range(2))
    if isinstance(plain, psycopg.Connection):
        plain.autocommit = True
        plain.adapters.register_loader("name", TextLoader)  # psycopg's own
    measured: list[float] = []
    baseline: list[float] = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        accounts = engine.audit(session, database).accounts
        read = time.perf_counter()
        rows = bare(plain)
        baseline.append((time.perf_counter() - read) * 1e3)
        measured.append((read - started) * 1e3)
        assert rows >= len(accounts) > USERS
    session.close()
    plain.close()
    value, baseline_value = statistics.median(measured), statistics.median(baseline)
    # Of each round, in which both had the same of a machine that others use too.
    ratio = statistics.median(one / other for one, other in zip(measured, baseline, strict=True))
    return Result(name, value, "ms", "the bare queries and their rows", baseline_value, ratio, at_most=1.7)


def bare_postgres(session: PostgresSession) -> int:
    """Ask what an audit asks, and return the number of rows."""
    rows = [
        session.execute(query).fetchall()
        for query in (
            audit._SERVER,
            audit._ROLES,
            catalog._MEMBERSHIPS.format(inherit="a.inherit_option", set="a.set_option"),
        )
    ]
    return sum(map(len, rows))


def _bare_mariadb(session: MysqlSession) -> int:
    count = 0
    with session.cursor() as cursor:
        cursor.execute(f"CALL {audit_procedure.SCHEMA}.{audit_procedure.PROCEDURE}()")
        count += len(cursor.fetchall())
        while cursor.nextset():
            count += len(cursor.fetchall())
    return count


def _onboard(engine: Engine, database: Database) -> None:
    """Create manager and auditor, as onboarding does."""

    def connect(authority: str, name: str | None) -> Session:
        login: Login = Password(_MASTER, _PASSWORD) if authority == "master" else Token(MANAGER, "any")
        session: Session = engine.connect(database, login, name)
        return session

    sessions, desired = Sessions(connect, "master"), DesiredState((), {})
    snapshot = engine.inspect(sessions, database, desired)
    engine.apply(sessions, snapshot, engine.difference(snapshot, desired), desired)
    sessions.close()


def _any_token(user: str, token: str, tls: bool) -> None:
    """Accept every token."""


@contextmanager
def _database(kind: str, root: Path, authority: Authority) -> Iterator[Database]:
    """Start a server and fill it with users."""
    server_of = PostgresServer if kind == "postgres" else MariadbServer
    server = server_of(
        root / kind,
        ServerAddress.of_localhost(),
        _MASTER,
        _PASSWORD,
        "shop",
        authority,
        _any_token,
    )
    server.start()
    try:
        server.set_iam(True)
        with server._connect() as rdsadmin, rdsadmin.cursor() as cursor:
            for statement in _ON_POSTGRES if kind == "postgres" else _ON_MARIADB:
                cursor.execute(statement)
        yield Database(
            arn=f"arn:aws:rds:eu-west-1:123456789012:db:{kind}",
            identifier=kind,
            engine=kind,
            engine_version="18.1",
            resource_id="db-BENCH",
            status="available",
            host=server.address.host,
            port=server.address.port,
            iam_enabled=True,
            master_user=_MASTER,
            default_database="shop",
        )
    finally:
        server.stop()
