"""Facts that an audit reads of one database, as plain data: no evaluation, no secret, no rows of users' tables."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any, Literal

from rdsiam.engines.schema_names import PATTERNS, SchemaNames
from rdsiam.state.escalations import Examined
from rdsiam.state.layout import Layout

#: The stage at which reading a database failed. `state`: RDS reports nothing to connect to (stopped, creating).
#: `iam`: IAM authentication is off, so that the auditor can't log in. `name`, `port`, `tls`, `login`: of a connection.
#: `query`: logged in, but the catalogs could not be read. `time`: the limit for one database passed.
Stage = Literal["state", "iam", "name", "port", "tls", "login", "query", "time"]


@dataclass(frozen=True)
class AccountFacts:
    """One account: on MySQL and MariaDB a user and host pattern, on PostgreSQL a role.

    A PostgreSQL role that can't log in is included only if it has `rds_iam` or passes it on, with `login` False.

    :ivar host: host pattern; empty on PostgreSQL.
    :ivar iam: logs in by token: the plugin, or `rds_iam`, directly or inherited.
    :ivar iam_through: roles from which `rds_iam` is inherited, nearest first; empty if it is held directly.
    :ivar password: may log in by password; None if the catalogs don't tell (PostgreSQL hides it on RDS).
    :ivar second_password: besides IAM there is another login method: dual password, MariaDB's `auth_or`.
    :ivar empty_password: logs in without any password.
    :ivar plugin: authentication plugin on MySQL and MariaDB; empty on PostgreSQL.
    :ivar expired: the password has expired, or VALID UNTIL has passed.
    :ivar unusable: no login is possible: locked, an impossible hash, VALID UNTIL has passed.
    :ivar administrator: may create or change other accounts, or is a superuser.
    :ivar tls: can't log in without TLS.
    :ivar owns: number of objects that the account owns (tables, schemas, databases, functions…).
    :ivar replication: used for replication, where tokens are accepted only if `ServerFacts.replication_by_token`.
    :ivar sessions: sessions that are open now; None if that is unknown.
    :ivar last_seen: when the account was last seen logged in, RFC 3339; None if that is unknown.
    :ivar member_of: roles that the account is a direct member of, sorted.
    :ivar privileges: privileges on schemas, MySQL and MariaDB: schema → sorted privileges; global ones under `*`.
    :ivar schema_names: how the account's server reads names of schemas in grants, MySQL and MariaDB.
    :ivar further_factors: number of factors that a login needs besides the plugin, so that a token isn't enough; MySQL.
    :ivar locking: the server locks the account after some failed logins; MySQL.
    """

    name: str
    host: str = ""
    login: bool = True
    iam: bool = False
    iam_through: tuple[str, ...] = ()
    password: bool | None = None
    second_password: bool = False
    empty_password: bool = False
    plugin: str = ""
    locked: bool = False
    expired: bool = False
    unusable: bool = False
    administrator: bool = False
    tls: bool = False
    owns: int = 0
    replication: bool = False
    sessions: int | None = None
    last_seen: str | None = None
    member_of: tuple[str, ...] = ()
    privileges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schema_names: SchemaNames = PATTERNS
    further_factors: int = 0
    locking: bool = False

    @classmethod
    def of(cls, accounts: Iterable[dict[str, Any]]) -> tuple["AccountFacts", ...]:
        """Return `AccountFacts(**fields)` of each account in a fraction of the time.

        A frozen dataclass sets each field by a call. Here fields that are left out are read from the class, where a
        dataclass keeps its defaults. The objects keep the dicts themselves.
        """
        dicts = list(accounts)
        result = tuple(map(object.__new__, repeat(cls, len(dicts))))
        # Both loops are the interpreter's own.
        deque(map(cls.__dict__["__dict__"].__set__, result, dicts), maxlen=0)
        return result

    @property
    def label(self) -> str:
        """Return the account as people write it: `name`, or `name@host`."""
        return f"{self.name}@{self.host}" if self.host else self.name

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON, which `AccountFacts.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AccountFacts":
        """Return the facts that `to_json` wrote."""
        lists = {name: tuple(data[name]) for name in ("iam_through", "member_of")}
        privileges = {on: tuple(held) for on, held in data["privileges"].items()}
        names = SchemaNames(**data["schema_names"])
        return cls(**{**data, **lists, "privileges": privileges, "schema_names": names})


# The only default that comes from a factory, which a dataclass does not keep on the class.
AccountFacts.privileges = {}


@dataclass(frozen=True)
class ServerFacts:
    """Facts that one session read of a server.

    :ivar version: as the server reports it.
    :ivar tls_enforced: the server refuses every login without TLS (`rds.force_ssl`, `require_secure_transport`); None
        if that is unknown.
    :ivar databases: databases (PostgreSQL) or schemas (MySQL, MariaDB), without the system's, sorted.
    :ivar accounts: every account except the system's, sorted by name and host, with the master and rdsiam's own.
    :ivar examined: users that can act as an administrator, as the last onboarding saw: a session of the audit sees the
        tables of one database only. None if no onboarding has looked.
    :ivar replication_by_token: users that replicate may log in by token (`rds.iam_auth_for_replication`).
    :ivar unadministered: roles that `rdsiam_manager` may not change: from PostgreSQL 16 on all of which it has no ADMIN
        OPTION.
    :ivar layout: databases, schemas and owners, as fingerprints; None if it was not read.
    """

    version: str
    tls_enforced: bool | None
    databases: tuple[str, ...]
    accounts: tuple[AccountFacts, ...]
    examined: Examined | None = None
    unadministered: frozenset[str] = frozenset()
    layout: Layout | None = None
    replication_by_token: bool = False


@dataclass(frozen=True)
class Unreadable:
    """The reason why a database could not be read: it is unknown, never compliant.

    :ivar stage: the stage at which reading failed.
    :ivar cause: the message of the server, the driver or the system, in one line, without a secret.
    """

    stage: Stage
    cause: str
