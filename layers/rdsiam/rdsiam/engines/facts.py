"""What an audit reads of one database, as plain data: no judgement, no secret, and nothing of anybody's rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rdsiam.state.escalations import Examined

#: How far a reading came before it failed. `state`: RDS says that there is nothing to connect to (stopped, creating).
#: `iam`: IAM authentication is off, so that the auditor can't log in. `name`, `port`, `tls`, `login`: of a connection.
#: `query`: logged in, but the catalogs could not be read. `time`: the limit for one database passed.
Stage = Literal["state", "iam", "name", "port", "tls", "login", "query", "time"]


@dataclass(frozen=True)
class AccountFacts:
    """One account: on MySQL and MariaDB a user and host pattern, on PostgreSQL a role.

    A PostgreSQL role that can't log in is among them only if it has `rds_iam` or hands it on, with `login` False.

    :ivar host: host pattern; empty on PostgreSQL.
    :ivar iam: logs in by token: the plugin, or `rds_iam`, directly or inherited.
    :ivar iam_through: roles from which `rds_iam` is inherited, nearest first; empty where it is held directly.
    :ivar password: may log in by password; None where the catalogs don't tell (PostgreSQL hides it on RDS).
    :ivar second_password: beside IAM there is another way in: dual password, MariaDB's `auth_or`.
    :ivar empty_password: logs in with no password at all.
    :ivar plugin: authentication plugin on MySQL and MariaDB; empty on PostgreSQL.
    :ivar expired: password expired, or VALID UNTIL passed.
    :ivar unusable: nobody can log in as it, whatever he knows: locked, an impossible hash, passed VALID UNTIL.
    :ivar administrator: may make or change other accounts, or is a superuser.
    :ivar tls: can't log in without TLS.
    :ivar owns: number of objects that it owns (tables, schemas, databases, functions…).
    :ivar replication: made for replication; RDS gives those no IAM login.
    :ivar sessions: sessions that are open now; None where that can't be seen.
    :ivar last_seen: when it was last seen logged in, RFC 3339; None where that can't be seen.
    :ivar member_of: roles that it is a direct member of, sorted.
    :ivar privileges: what it holds on schemas, MySQL and MariaDB: schema → sorted privileges.
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

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "AccountFacts":
        """Return `AccountFacts(**fields)` in a fraction of the time: a frozen dataclass sets each field by a call.

        What is left out is found on the class, where a dataclass keeps its defaults. `fields` becomes its own.
        """
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", fields)
        return made

    @property
    def label(self) -> str:
        """Return it as people write it: `name`, or `name@host`."""
        return f"{self.name}@{self.host}" if self.host else self.name

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `AccountFacts.from_json` gives it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AccountFacts":
        """Return what `to_json` was made from."""
        lists = {name: tuple(data[name]) for name in ("iam_through", "member_of")}
        return cls(**{**data, **lists, "privileges": {on: tuple(held) for on, held in data["privileges"].items()}})


# The one default that comes from a factory, which a dataclass does not keep on the class.
AccountFacts.privileges = {}


@dataclass(frozen=True)
class ServerFacts:
    """What one session read of a server.

    :ivar version: as the server tells it.
    :ivar tls_enforced: it refuses every login without TLS (`rds.force_ssl`, `require_secure_transport`); None where
        that can't be seen.
    :ivar databases: databases (PostgreSQL) or schemas (MySQL, MariaDB), without the system's, sorted.
    :ivar accounts: every account but the system's, sorted by name and host. The master and rdsiam's own are among them.
    :ivar examined: who can act as an administrator, which the last onboarding saw: a session of the audit sees the
        tables of one database only. None if nobody has looked.
    """

    version: str
    tls_enforced: bool | None
    databases: tuple[str, ...]
    accounts: tuple[AccountFacts, ...]
    examined: Examined | None = None


@dataclass(frozen=True)
class Unreadable:
    """Why a database could not be read: it is unknown, never in order.

    :ivar stage: how far it came.
    :ivar cause: what the server, the driver or the system said, in one line, without a secret.
    """

    stage: Stage
    cause: str
