"""A user leaves its password behind: paired, proven, watched, retired, and back from each of these; both engines."""

import contextlib
import itertools
import json
import uuid

import psycopg
import pymysql
import pytest

from tests.integration.fix_account import Account, until
from tests.integration.fix_migration import PASSWORD, Pool, dump, make_user

NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def engine(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def arn(account, engine) -> str:
    identifier = f"migrate-{engine}"
    account.declare(identifier, {"name": "other", "privileges": "readonly", "on": ["shop"]})
    arn: str = account.create(identifier, engine)
    account.wait_onboarded(arn)
    yield arn
    account.declare(identifier)
    account.cloud.client("rds").delete_db_instance(DBInstanceIdentifier=identifier, SkipFinalSnapshot=True)
    until(lambda: account.record(arn) is None, 60)


class App:
    """A user with a password, its secret, and its migration."""

    def __init__(self, account: Account, arn: str, engine: str) -> None:
        self.account, self.arn, self.engine = account, arn, engine
        self.identifier = arn.rpartition(":")[2]
        self.name = f"app{next(NUMBERS)}"
        self.heir = f"{self.name}_iam"
        self.role = account.make_role(f"{self.name}-{engine}")
        make_user(account, arn, self.name, engine == "postgres")
        account.onboard(arn)  # others get what they are to have of the new tables
        endpoint = account.describe(arn)["Endpoint"]
        said = {"engine": engine, "host": endpoint["Address"], "port": endpoint["Port"]}
        self.secret = account.cloud.client("secretsmanager").create_secret(
            Name=f"{self.name}-{engine}",
            SecretString=json.dumps(said | {"username": self.name, "password": PASSWORD}),
            Tags=[{"Key": "rdsiam:managed", "Value": "true"}],
        )["ARN"]

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
        users = [one for one in self.account.entries[self.identifier]["users"] if one["name"] != self.heir]
        mine = {"name": self.heir, "replaces": self.name, "roles": [self.role]} | fields
        self.account.declare(self.identifier, *users, *([mine] if replaced else []), *more)

    def dump(self) -> str:
        return dump(self.account, self.arn, self.name, self.engine == "postgres")

    def token(self, user: str | None = None) -> str:
        return self.account.token(self.arn, user or self.heir, self.account.assume(self.role))

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


@pytest.fixture
def app(account, arn, engine) -> App:
    app = App(account, arn, engine)
    yield app
    app.declare(replaced=False)
    account.onboard(arn, confirm=True)
    app.migrate(undo=True, confirm=True)


def test_a_whole_migration_fails_no_query_and_its_undo_gives_back_what_was(app):
    before = app.dump()
    app.declare()
    with Pool(app.account, app.arn, app.name, PASSWORD, f"of_{app.name}") as old:
        app.start(watch="4s")
        watched = app.wait("watching")
        until(lambda: app.kept()["watch"]["looks"] > 2, 60)
        assert [one["state"] for one in watched["history"]] == ["paired", "proven", "watching"]
        assert old.failed == []
    seen = app.kept()["watch"]["seen"]
    assert sum(one["sessions"] for one in seen) == 10
    assert all(one["application"] == "shop" if app.engine == "postgres" else one["address"] for one in seen), seen
    with Pool(app.account, app.arn, app.heir, app.token(), f"of_{app.name}") as new:
        kept = app.wait("retired")
        assert not app.logs_in()
        until(lambda: app.secret_state().get("DeletedDate"), 30)
        with app.account.connect(app.arn, app.heir, app.token()) as session:
            session.run(f"ALTER TABLE of_{app.name} ADD COLUMN more int")
            session.run(f"ALTER TABLE of_{app.name} DROP COLUMN more")
        assert new.failed == []
        assert new.queries > 0
    assert old.failed == []
    assert kept["history"][-1]["done"]
    until(lambda: app.migrate()["status"] == "unchanged", 30)

    undone = app.migrate(undo=True)
    assert undone["status"] == "undone", undone
    assert "stays while access.yaml declares it" in undone["reason"]
    assert app.logs_in()
    assert "DeletedDate" not in app.secret_state()
    app.declare(replaced=False)
    assert app.migrate(undo=True)["status"] == "undone"
    assert app.kept() is None
    assert app.dump() == before
    app.account.onboard(app.arn)
    assert app.account.onboard(app.arn)["status"] == "unchanged"
