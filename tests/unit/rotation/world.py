"""A secret, a database server and the inventory in memory, on which steps of rotations run."""

import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import Description
from rdsiam.aws.secrets.value import MasterSecret, Secret, read_secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.connection import ASKS_FOR_TOKEN
from rdsiam.engines.rotation import PasswordRejected
from rdsiam.errors import ConnectionFailed, RotationFailed
from rdsiam.events.rotate import RotationRequest
from rdsiam.rotation.steps import Rotation
from rdsiam.rotation.targets import Targets, refuse_misplaced
from rdsiam.state.record import Record, SecretRecord

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"
MASTER = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:boss-AbCdEf"
DATABASE = Database(
    arn="arn:aws:rds:eu-west-1:123456789012:db:one", identifier="one", engine="postgres", engine_version="18",
    resource_id="db-ONE", status="available", host="one.example", port=5432, iam_enabled=True, master_user="boss",
)  # fmt: skip
DOCUMENT = {
    "engine": "postgres", "host": "one.example", "username": "app", "password": "first-word",
    "dbInstanceIdentifier": "one",
}  # fmt: skip
FIRST = read_secret(json.dumps(DOCUMENT))


@dataclass
class Store:
    """Secrets Manager in memory."""

    values: dict[str, Secret] = field(default_factory=lambda: {"v0": FIRST})
    stages: dict[str, set[str]] = field(default_factory=lambda: {"v0": {"AWSCURRENT"}})
    rotates: bool = True
    owner: str | None = None
    master_secret: MasterSecret = field(default_factory=lambda: MasterSecret("boss", "boss-word", "one.example"))
    proofs: list[str | None] = field(default_factory=list)

    def describe(self, arn: str) -> Description:
        stages = {version: tuple(labels) for version, labels in self.stages.items() if labels}
        return Description(arn, self.rotates, self.owner, stages)

    def labelled(self, _: str, stage: str, version: str | None = None) -> Secret | None:
        holder = next((v for v, labels in self.stages.items() if stage in labels), None)
        value = self.values.get(holder) if holder is not None and version in (None, holder) else None
        return None if value is None else replace(value, version=holder)

    def current(self, arn: str) -> Secret:
        return SecretStore.current(self, arn)  # type: ignore[arg-type]

    def unlabelled(self, _: str) -> list[Secret]:
        return [self.values[v] for v, labels in self.stages.items() if not labels and v in self.values][::-1]

    def current_and_master(self, arn: str, _: str) -> tuple[Secret | None, MasterSecret]:
        return self.labelled(arn, "AWSCURRENT"), self.master_secret

    def put_pending(self, _: str, token: str, secret: Secret, proof: str | None) -> bool:
        self.proofs.append(proof)
        return self.values.setdefault(token, secret) is secret

    def promote(self, _: str, token: str, current: str | None) -> None:
        for labels in self.stages.values():
            labels.discard("AWSPREVIOUS")
        if current:
            self.stages[current] = {"AWSPREVIOUS"}
        self.stages[token] = {"AWSCURRENT"}

    def discard_pending(self, _: str, token: str) -> None:
        self.stages[token].discard("AWSPENDING")

    def begin(self, token: str) -> None:
        if not any("AWSPENDING" in labels for labels in self.stages.values()):
            self.stages.setdefault(token, {"AWSPENDING"})


@dataclass
class Engine:
    """A server that knows passwords."""

    passwords: dict[str, str] = field(default_factory=lambda: {"app": "first-word", "boss": "boss-word"})
    rejects: int = 0
    down: bool = False
    iam: bool = False
    logins: list[tuple[str, str]] = field(default_factory=list)

    def connect(self, _: Database, login: Any, __: str | None) -> Any:
        self.logins.append((login.user, login.secret))
        if self.down:
            raise ConnectionFailed("one.example", 5432, "port", "connection refused")
        if self.iam:
            raise ConnectionFailed("one.example", 5432, "login", "asked for a token", ASKS_FOR_TOKEN)
        if self.passwords.get(login.user) != login.secret:
            raise ConnectionFailed("one.example", 5432, "login", "wrong", "1045")
        return Session(login.user)

    def wrong_password(self, error: ConnectionFailed) -> bool:
        return error.server_code == "1045"

    def prove(self, _: Any) -> None:
        return None

    def set_own_password(self, session: Any, _: str, password: str, __: Any) -> None:
        if self.rejects:
            self.rejects -= 1
            raise PasswordRejected("the database does not take the new password")
        self.passwords[session.user] = password

    def clone_name(self, user: str) -> str:
        return user.removesuffix("_clone") if user.endswith("_clone") else user + "_clone"

    def set_other_password(self, _: Any, __: str, user: str, password: str) -> None:
        self.passwords[user] = password


@dataclass
class Session:
    user: str

    def close(self) -> None:
        return None


class KnownTargets(Targets):
    """Finds the one database, with what is recorded of it."""

    def __init__(self, record: SecretRecord) -> None:
        self.records = {DATABASE.arn: Record("db-ONE", secrets={"app": record})}
        super().__init__(None, SimpleNamespace(get=self.records.get))  # type: ignore[arg-type]
        self.proxies: list[str] = []
        self.asked = 0

    def _described(self, secret: Secret) -> Database:
        self.asked += 1
        refuse_misplaced(secret, DATABASE)
        return DATABASE

    def classic_proxies(self, _: str) -> list[str]:
        return self.proxies

    def change(self, **fields: Any) -> None:
        """Change what is recorded."""
        record = self.records[DATABASE.arn].secrets["app"]
        self.records[DATABASE.arn] = Record("db-ONE", secrets={"app": replace(record, **fields)})


class World:
    """One secret and its database; each step in a process of its own unless `warm`."""

    def __init__(self, alternating: bool = False, warm: bool = False) -> None:
        scheme, administrator = ("alternating", MASTER) if alternating else ("single", None)
        record = SecretRecord("db-ONE", ARN, scheme, administrator)  # type: ignore[arg-type]
        self.store, self.engine, self.found, self.warm = Store(), Engine(), KnownTargets(record), warm
        document = DOCUMENT | ({"masterarn": MASTER} if alternating else {})
        self.store.values["v0"] = read_secret(json.dumps(document))
        self.now = 0.0
        self._rotation = self._make()

    def _make(self) -> Rotation:
        return Rotation(self.store, self.found, engines={"postgres": self.engine}, clock=lambda: self.now)  # type: ignore

    def run(self, step: str, token: str = "v1") -> str:
        rotation = self._rotation if self.warm else self._make()
        try:
            return rotation.run(RotationRequest(step, ARN, token, "proof-of-caller"))  # type: ignore[arg-type]
        except RotationFailed as error:
            failed = f"failed: {error}"
        assert "-word" not in failed
        return failed

    @property
    def current(self) -> Secret:
        found = self.store.labelled(ARN, "AWSCURRENT")
        assert found is not None
        return found

    def works(self, secret: Secret | None) -> bool:
        return secret is not None and self.engine.passwords.get(secret.user) == secret.password
