"""Records: what the inventory holds of one database."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase, select
from rdsiam.access.users import Grant
from rdsiam.aws.rds_models import Database
from rdsiam.state.escalations import Examined
from rdsiam.state.layout import Layout

if TYPE_CHECKING:
    from rdsiam.access.rotation import RotatingUser, Scheme

Ownership = Literal["created", "adopted"]

#: The reason in `Record.leaving` of a user that is declared again before a run has enabled it.
RETURNED = "it is declared again, and no run has enabled it yet"

#: What says nothing of how to log in, and may change at any time.
_NOT_KEPT = {"arn", "status", "pending", "public", "instance_class", "replicas", "express"}
#: What is kept of a database: what vending needs, and what makes an onboarding look again.
KEPT = tuple(name for name in (field.name for field in fields(Database)) if name not in _NOT_KEPT)


@dataclass(frozen=True)
class Applied:
    """The access.yaml that an onboarding applied, and what it declared for the database.

    :ivar declared: fingerprint of what it declares for the database.
    :ivar entries: number of entries of the whole file.
    :ivar users: the declared users.
    :ivar turn: of the lease under which users were made so; 0 if the database has no users of its own.
    """

    version: str
    declared: str
    entries: int
    users: tuple[str, ...]
    turn: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SecretRecord:
    """The secret that RotateFunction may rotate for one user of one database. Only SecretsFunction writes it.

    :ivar resource_id: of the database; another one is another database of the same name.
    :ivar arn: None between the decision to create the secret and the answer of CreateSecret.
    :ivar administrator: ARN of the administrator's secret, for `alternating`; None for `single`.
    :ivar state: `initial`: rdsiam creates the secret, and the database may not have its password yet. `ending`:
        access.yaml no longer declares this rotation, which sets no password from now on; its schedule may still be
        set. `ended`: the user is no longer rotated; a migration may still delete the secret.
    :ivar version: while `initial`: id of the version that rdsiam writes, recorded before that is written.
    """

    resource_id: str
    arn: str | None
    scheme: "Scheme"
    administrator: str | None = None
    state: Literal["initial", "ready", "ending", "ended"] = "ready"
    version: str | None = None

    def permits(self, database: Database, user: "RotatingUser") -> bool:
        """Return whether access.yaml still declares what is recorded."""
        administrator = None if user.scheme == "single" else user.administrator or database.master_secret_arn
        return (self.resource_id, self.scheme, self.administrator) == (
            database.resource_id,
            user.scheme,
            administrator,
        ) and user.secret in (None, self.arn)

    def to_json(self) -> dict[str, str]:
        """Return the fields that have a value, as the inventory keeps them."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Record:
    """The record of one database.

    :ivar arn: its key: the database's ARN when this was written; another key if the database was renamed since.
    :ivar database: as Describe gave it when it was last onboarded; None before the first onboarding ended.
    :ivar resource_id: the resource id that all this belongs to; another one is another database of the same name.
    :ivar accounts: users and group roles that rdsiam made or adopted, from before they are made.
    :ivar finished: whether the last onboarding finished; the record before it stays valid for tokens.
    :ivar roles: ARNs of IAM roles that hold a policy for it, under `policy_resource_id`.
    :ivar shards: vended user → number of the shard of ConnectRole that VendFunction assumes for it.
    :ivar applied: the access.yaml of the last onboarding that ended; None for one of long ago.
    :ivar fingerprint: of database and declaration at that time.
    :ivar revoked: users that an operator has revoked → the reason; they stay revoked whatever access.yaml declares.
    :ivar leaving: users whose login is being taken away → what stands in the way, until all of it is gone; or
        `RETURNED`.
    :ivar secrets: user → the secret that is rotated, from before anything acts on it.
    :ivar recorded: attributes by which entries of access.yaml select it; None before they are recorded.
    :ivar first_seen: attributes that it had when rdsiam first saw it and no entry was about it. They count like
        recorded ones, unless it is a copy.
    :ivar copied: it is a copy whose attributes are not confirmed: users that it brought along can still be taken over.
    :ivar pending: fingerprint of what waits for confirmation because other attributes were recorded; empty if nothing.
    :ivar granted: user → grants that rdsiam has made to the user itself in PostgreSQL databases, from before they are
        made until they are revoked.
    :ivar layout: databases, schemas and owners that the last onboarding saw; None if none has looked.
    :ivar notices: event that RDS reported about it → when rdsiam last got one.
    :ivar ignored_fingerprint: fingerprint of a database that can't be onboarded until RDS or access.yaml says something
        else of it; empty if it can.
    :ivar handled: digest of the drift that an onboarding could not end, so that the audit starts none again for it;
        empty if there is none.
    :ivar handled_at: when that onboarding ended.
    :ivar examined: users that could act as administrators when that was last examined; None if it never was.
    """

    resource_id: str | None
    database: SelectedDatabase | None = None
    accounts: Mapping[str, Ownership] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    shards: Mapping[str, int] = field(default_factory=dict)
    policy_resource_id: str | None = None
    access_version: str | None = None
    onboarded_at: str | None = None
    finished: bool = False
    applied: Applied | None = None
    fingerprint: str | None = None
    revoked: Mapping[str, str] = field(default_factory=dict)
    leaving: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRecord] = field(default_factory=dict)
    arn: str = ""
    recorded: Attributes | None = None
    first_seen: Attributes | None = None
    copied: bool = False
    pending: str = ""
    examined: Examined | None = None
    granted: Mapping[str, tuple[Grant, ...]] = field(default_factory=dict)
    layout: Layout | None = None
    handled: str = ""
    handled_at: str | None = None
    ignored_fingerprint: str = ""
    notices: Mapping[str, str] = field(default_factory=dict)

    @property
    def departing(self) -> frozenset[str]:
        """The users that are leaving, without those that are declared again."""
        return frozenset(user for user, reason in self.leaving.items() if reason != RETURNED)

    @property
    def rotates(self) -> bool:
        """Whether SecretsFunction has something to end if nothing is declared any longer."""
        return any(secret.state != "ended" for secret in self.secrets.values())

    @property
    def only_seen(self) -> bool:
        """Whether nothing is known of the database but the attributes that it had."""
        more = self.recorded or self.accounts or self.roles or self.revoked or self.secrets
        return self.first_seen is not None and not more

    def is_of(self, database: Database) -> bool:
        """Return whether this is about that very database, not about another one that had its name."""
        return self.resource_id == database.resource_id


def accounts_of(database: Database, record: Record | None) -> Mapping[str, Ownership]:
    """Return the accounts that rdsiam made or adopted in this very database; empty if the record is another one's."""
    return record.accounts if record is not None and record.is_of(database) else {}


def granted_of(database: Database, record: Record | None) -> Mapping[str, tuple[Grant, ...]]:
    """Return the grants that rdsiam made to users themselves in this very database."""
    return record.granted if record is not None and record.is_of(database) else {}


def selected(database: Database, record: Record | None) -> SelectedDatabase:
    """Return the database with the attributes recorded for its resource id; if there are none its own decide."""
    known = record is not None and record.is_of(database)
    return select(database, record.recorded or record.first_seen if known and record is not None else None)


def record_of(arn: str, item: Mapping[str, Any], large: Mapping[str, Any] = MappingProxyType({})) -> Record:
    """Return the record that an item of the table holds.

    :param large: attributes that are in items of their own.
    """
    values = {name: plain(value) for name, value in item.items()} | dict(large)
    database = applied = None
    resource_id = values.get("resource_id")
    examined = values.get("examined") or {"resource_id": ""}
    layout = values.get("layout", {"resource_id": ""})
    recorded, first_seen = _attributes(values, "recorded"), _attributes(values, "first_seen")
    if "described" in values:
        described = values["described"] | {"port": int(values["described"]["port"])}
        database = SelectedDatabase(arn=arn, status="onboarded", recorded=recorded or NOTHING, **described)
    if "declared" in values:
        applied = Applied(
            values["access_version"], values["declared"], int(values["access_entries"]), tuple(values["users"])
        )
    return Record(
        resource_id=resource_id,
        # What was described under another resource id was another database of the same name.
        database=database if database and database.resource_id == resource_id else None,
        accounts=dict(values.get("accounts", {})),
        roles=tuple(sorted(values.get("roles", ()))),
        shards=dict(values.get("shards", {})),
        policy_resource_id=values.get("policy_resource_id"),
        access_version=values.get("access_version"),
        onboarded_at=values.get("onboarded_at"),
        finished=bool(values.get("finished")),
        applied=applied,
        fingerprint=values.get("fingerprint"),
        revoked=dict(values.get("revoked", {})),
        leaving=dict(values.get("leaving", {})),
        secrets={user: SecretRecord(**({"arn": None} | secret)) for user, secret in values.get("secrets", {}).items()},
        arn=arn,
        recorded=recorded,
        first_seen=first_seen,
        copied=bool(values.get("copied")),
        pending=values.get("pending", ""),
        # That of another resource id is about another database of the same name.
        examined=Examined.from_json(examined) if examined.get("resource_id") == resource_id else None,
        granted={user: tuple(map(Grant.from_json, grants)) for user, grants in values.get("granted", {}).items()},
        layout=Layout.from_json(layout) if layout.get("resource_id") == resource_id else None,
        handled=values.get("handled", ""),
        handled_at=values.get("handled_at"),
        ignored_fingerprint=values.get("ignored_fingerprint", ""),
        notices=dict(values.get("notices", {})),
    )


def _attributes(values: Mapping[str, Any], name: str) -> Attributes | None:
    """Return recorded attributes; None if they were recorded for another database that had the same ARN."""
    attributes = values.get(name)
    if not attributes or attributes["resource_id"] != values["resource_id"]:
        return None
    return Attributes.from_json(attributes)


def plain(value: Mapping[str, Any]) -> Any:
    """Return a value of DynamoDB as plain data; only kinds that the inventory writes."""
    ((kind, content),) = value.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "NULL":
            return None
        case "N":
            return int(content)
        case "L":
            return [plain(each) for each in content]
        case "M":
            return {name: plain(each) for name, each in content.items()}
    raise ValueError(f"the inventory holds a value of kind {kind}, which rdsiam never writes")
