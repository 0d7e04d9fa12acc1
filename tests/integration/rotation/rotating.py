"""Secrets in this process, on moto with localcloud's patches, for rotations on real database servers; and faults."""

import itertools
import json
import secrets
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import psycopg
from botocore.exceptions import ClientError, ReadTimeoutError
from moto.secretsmanager.models import secretsmanager_backends

from localcloud.moto_patches.patch import apply_patches
from localcloud.moto_patches.rotations import Rotations
from localcloud.moto_patches.table import secrets_manager_patches
from rdsiam.access.rotation import Scheme
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.value import Secret, read_secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Password
from rdsiam.engines.registry import ROTATORS
from rdsiam.errors import ConnectionFailed, RotationFailed
from rdsiam.events.rotate import STEPS, RotationRequest, Step
from rdsiam.rotation.pending_password import StepOutcome
from rdsiam.rotation.steps import Rotation
from rdsiam.rotation.targets import Targets, refuse_misplaced
from rdsiam.state.record import Record, SecretRecord
from tests.integration.place import MASTER, MASTER_PASSWORD, Place

REGION, ACCOUNT = "eu-west-1", "123456789012"
_numbers = itertools.count(1)


class Killed(BaseException):
    """The process ends here; nothing that it would have done afterwards is done."""


@dataclass
class Fault:
    """A fault at one point of an invocation: the calls and statements are counted from 0.

    :ivar kind: `die-before`, `die-after`; on calls of AWS also `denied`, `throttled`, `lost` (done, but not answered);
        on statements `cut-before`, `cut-after`: of the connection.
    """

    at: int = -1
    kind: str = "die-before"
    seen: int = 0
    struck: bool = False
    statements: list[str] = field(default_factory=list)

    def strikes(self) -> bool:
        """Count a point, and tell whether it is the one."""
        self.seen += 1
        self.struck = self.struck or self.seen - 1 == self.at
        return self.seen - 1 == self.at


class FaultyClient:
    """A client of AWS, or what asks one, whose calls count as points."""

    def __init__(self, client: Any, fault: Fault) -> None:
        self._client, self._fault = client, fault
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*words: Any, **arguments: Any) -> Any:
            self.calls.append(name)
            struck, kind = self._fault.strikes(), self._fault.kind
            if struck and kind == "die-before":
                raise Killed
            if struck and kind in {"denied", "throttled"}:
                code = {"denied": "AccessDeniedException", "throttled": "ThrottlingException"}[kind]
                raise ClientError({"Error": {"Code": code, "Message": f"{name} was {kind}"}}, name)
            try:
                answer = method(*words, **arguments)
            finally:
                if struck and kind == "die-after":
                    raise Killed
            if struck and kind == "lost":
                raise ReadTimeoutError(endpoint_url="https://secretsmanager")
            return answer

        return call


class FaultySession:
    """A session whose statements count as points; what is asked of it otherwise, the driver's session answers."""

    def __init__(self, session: Any, fault: Fault) -> None:
        self._session, self._fault = session, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def execute(self, *arguments: Any) -> Any:
        self.note(arguments[0])
        return self._point(lambda: self._session.execute(*arguments))

    def note(self, statement: Any) -> None:
        """Keep the statement as it is sent."""
        self._fault.statements.append(statement if isinstance(statement, str) else statement.as_string(None))

    def commit(self) -> Any:
        return self._point(self._session.commit)

    def cursor(self) -> Any:
        return FaultyCursor(self, self._session.cursor())

    def _point(self, work: Callable[[], Any]) -> Any:
        struck, kind = self._fault.strikes(), self._fault.kind
        if struck and kind == "die-before":
            raise Killed
        if struck and kind == "cut-before":
            self._cut()
        result = work()
        if struck and kind == "die-after":
            raise Killed
        if struck and kind == "cut-after":
            self._cut()
        return result

    def _cut(self) -> None:
        """Take the connection away below the driver's feet."""
        if isinstance(self._session, psycopg.Connection):
            self._session.close()
        else:
            self._session._force_close()


class FaultyCursor:
    """A cursor of a `FaultySession`."""

    def __init__(self, session: FaultySession, cursor: Any) -> None:
        self._owner, self._cursor = session, cursor

    def __enter__(self) -> "FaultyCursor":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, *arguments: Any) -> Any:
        self._owner.note(arguments[0])
        return self._owner._point(lambda: self._cursor.execute(*arguments))


class FaultyRotator:
    """An engine whose sessions are faulty, and are counted."""

    def __init__(self, engine: Any, fault: Fault) -> None:
        self._engine, self._fault = engine, fault
        self.connections = 0
        self.logins: list[tuple[str, str | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def connect(self, *arguments: Any) -> FaultySession:
        self.connections += 1
        self.logins.append((arguments[1].user, arguments[2]))
        return FaultySession(self._engine.connect(*arguments), self._fault)


class OneDatabase(Targets):
    """Finds this database, and what is recorded of it, and counts how often RDS and DynamoDB would be asked."""

    def __init__(self, database: Database, user: str, record: SecretRecord) -> None:
        self.database, self.user, self.record = database, user, record
        self.proxies: list[str] = []
        self.asked = 0
        super().__init__(None, SimpleNamespace(get=self._get))  # type: ignore[arg-type]

    def _get(self, arn: str) -> Record | None:
        self.asked += 1
        return Record(self.database.resource_id, secrets={self.user: self.record}) if arn == self.database.arn else None

    def _described(self, secret: Secret) -> Database:
        self.asked += 1
        refuse_misplaced(secret, self.database)
        return self.database

    def classic_proxies(self, _: str) -> list[str]:
        self.asked += 1
        return self.proxies


def faulty_rotation(client: Any, databases: OneDatabase, fault: Fault) -> tuple[Rotation, FaultyClient, FaultyRotator]:
    """Return a rotation to which that happens, and what counts its calls and its connections."""
    family = databases.database.family
    faulty, engine = FaultyClient(client, fault), FaultyRotator(ROTATORS[family], fault)
    described: Any = FaultyClient(databases, fault)
    return Rotation(SecretStore(SecretsManager(faulty)), described, engines={family: engine}), faulty, engine


@dataclass
class Rotating:
    """A user, its secret and rotations of it, each step in an invocation of its own."""

    place: Place
    client: Any
    arn: str
    user: str
    alternating: bool
    tokens: list[str] = field(default_factory=list)
    databases: OneDatabase = field(init=False)

    def __post_init__(self) -> None:
        value = self.value(self.labelled("AWSCURRENT"))
        assert value is not None
        scheme: Scheme = "alternating" if self.alternating else "single"
        record = SecretRecord(self.place.database.resource_id, self.arn, scheme, value.master_arn)
        self.databases = OneDatabase(self.place.database, self.user, record)

    # --- Secrets Manager's side ---

    @property
    def versions(self) -> dict[str, Any]:
        """Moto's own versions of the secret, without a request."""
        found: dict[str, Any] = secretsmanager_backends[ACCOUNT][REGION].secrets[self.arn].versions
        return found

    def stages(self) -> dict[str, tuple[str, ...]]:
        """Version → labels."""
        return {version: tuple(sorted(each["version_stages"])) for version, each in self.versions.items()}

    def labelled(self, stage: str) -> str | None:
        """Return the version that carries a label."""
        return next((version for version, stages in self.stages().items() if stage in stages), None)

    def value(self, version: str | None) -> Secret | None:
        """Return the value of a version; None if it has none."""
        text = self.versions[version].get("secret_string") if version else None
        return read_secret(text) if text else None

    def begin(self) -> str:
        """Do what RotateSecret does before it invokes the function."""
        pending = self.labelled("AWSPENDING")
        if pending is not None:
            return pending
        secret = secretsmanager_backends[ACCOUNT][REGION].secrets[self.arn]
        secret.rotation_requested = secret.rotation_enabled = True
        token = str(uuid.uuid4())
        secret.versions[token] = {"createdate": next(_numbers), "version_id": token, "version_stages": ["AWSPENDING"]}
        self.tokens.append(token)
        return token

    # --- invocations ---

    def rotation(self, fault: Fault | None = None) -> tuple[Rotation, FaultyClient, FaultyRotator]:
        """Return what a fresh process would use."""
        return faulty_rotation(self.client, self.databases, fault or Fault())

    def request(self, step: Step, token: str) -> RotationRequest:
        return RotationRequest(step, self.arn, token)

    def invoke(self, step: Step, token: str, fault: Fault | None = None) -> StepOutcome | str:
        """Run one step in a fresh process, and return its outcome, or how it failed."""
        try:
            return self.rotation(fault)[0].run(self.request(step, token))
        except RotationFailed as error:
            return f"failed: {error}"
        except Killed:
            return "killed"

    def at_once(self, one: tuple[Step, str], other: tuple[Step, str]) -> None:
        """Run two invocations at the same time."""
        threads = [threading.Thread(target=self.invoke, args=each) for each in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    def converge(self, attempts: int = 3) -> str:
        """Do as Secrets Manager does, until the rotation is finished; return its token."""
        answers = []
        for _ in range(attempts):
            token = self.begin()
            for step in STEPS:
                answers.append(self.invoke(step, token))
                if str(answers[-1]).startswith("failed"):
                    break
            if self.labelled("AWSCURRENT") == token:
                return token
        raise AssertionError(f"not within {attempts} attempts: {answers}")

    # --- the database's side ---

    def logs_in(self, secret: Secret | None) -> bool:
        """Tell whether a version logs in."""
        return secret is not None and self.password_works(secret.user, secret.password)

    def password_works(self, user: str, password: str) -> bool:
        engine = ROTATORS[self.place.database.family]
        login = Password(user, password, "scram-sha-256,md5", never_clear=True)
        try:
            engine.connect(self.place.database, login, "shop").close()
        except ConnectionFailed as error:
            if not engine.wrong_password(error):
                raise
            return False
        return True

    def exists(self, user: str) -> bool:
        """Tell whether the database has a user of that name."""
        query = (
            "SELECT count(*) FROM pg_roles WHERE rolname = '{}'"
            if self.place.database.family == "postgres"
            else "SELECT count(*) FROM mysql.user WHERE User = '{}'"
        )
        with self.place.as_master() as master:
            found: int = master.run(query.format(user))[0][0]
        return found > 0

    def set_password(self, user: str, password: str) -> None:
        """Set a password behind rdsiam's back."""
        with self.place.as_master() as master:
            master.run(set_password(self.place, user, password))


def set_password(place: Place, user: str, password: str) -> str:
    if place.database.family == "postgres":
        return f"ALTER ROLE {user} PASSWORD '{password}'"
    return f"ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'"


def create_user(place: Place, user: str, password: str) -> None:
    """Make a user with a password, as its owner would."""
    with place.as_master() as master:
        if place.database.family == "postgres":
            master.run(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        else:
            master.run(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
            master.run(f"GRANT SELECT, INSERT ON shop.* TO '{user}'@'%'")


MakeRotating = Callable[..., Rotating]


@cache
def patch_moto() -> None:
    """Patch moto once; rotations are invoked by the tests themselves."""
    apply_patches(secrets_manager_patches(Rotations(lambda *_: True, lambda *_: None)))


def rotating_maker(secrets_manager: Any) -> MakeRotating:
    """Return a function that makes a user and its secret."""

    def make(place: Place, alternating: bool = False, user: str | None = None, **keys: Any) -> Rotating:
        name = user or f"user_{next(_numbers)}"
        password = secrets.token_urlsafe(18)
        create_user(place, name, password)
        document: Mapping[str, Any] = {
            "engine": place.database.engine,
            "host": place.database.host,
            "port": str(place.database.port),
            "username": name,
            "password": password,
            "dbname": "shop",
            "dbInstanceIdentifier": place.database.identifier,
        }
        if alternating:
            master = {"username": MASTER, "password": MASTER_PASSWORD, "host": place.database.host}
            made = secrets_manager.create_secret(Name=f"master-of-{name}", SecretString=json.dumps(master))
            document = {**document, "masterarn": made["ARN"]}
        made = secrets_manager.create_secret(Name=name, SecretString=json.dumps({**document, **keys}))
        return Rotating(place, secrets_manager, made["ARN"], name, alternating)

    return make
