"""The login that the doctor diagnoses, and the result of one check of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from rdsiam.aws.rds import Database
from rdsiam.core.arn import Arn
from rdsiam.core.extras import needs
from rdsiam.engines.logins import Token
from rdsiam.signer import Credentials, TokenSigner

if TYPE_CHECKING:
    from rdsiam.engines.protocols import Engine

State = Literal["OK", "FAIL", "UNKNOWN"]


@dataclass(frozen=True)
class Verdict:
    """Result of a check.

    :ivar fix: what to do, a command if there is one; empty if the state is OK.
    """

    state: State
    detail: str
    fix: str = ""


def ok(detail: str) -> Verdict:
    """Return a verdict that this part works."""
    return Verdict("OK", detail)


def fail(detail: str, fix: str) -> Verdict:
    """Return a verdict that this part is wrong."""
    return Verdict("FAIL", detail, fix)


def unknown(detail: str, fix: str) -> Verdict:
    """Return a verdict that this part could not be checked."""
    return Verdict("UNKNOWN", detail, fix)


@dataclass(frozen=True)
class LoginCase:
    """A user's login on a database, with the caller's own credentials.

    :ivar client: returns a client of an AWS service, by its name.
    :ivar expiry: of the credentials; None if they have none.
    :ivar region: from the caller's configuration.
    """

    database: Database
    user: str
    client: Callable[[str], Any]
    credentials: Credentials
    expiry: datetime | None
    region: str

    @property
    def name(self) -> str:
        """The identifier of the database."""
        return self.database.identifier

    @property
    def owner(self) -> str:
        """The identifier of what has users and policies: the database; of a cluster's member its cluster."""
        return self.database.cluster or self.name

    @property
    def engine(self) -> "Engine":
        """The SQL of the database's family.

        :raises ExtraMissing: a package that onboarding and audits need is not installed.
        """
        with needs("access", "mysql", "postgres"):
            from rdsiam.engines.registry import ENGINES
        return ENGINES[self.database.family]

    @cached_property
    def identity(self) -> Arn:
        """The caller, as STS names it."""
        return Arn.parse(str(self.client("sts").get_caller_identity()["Arn"]))

    @property
    def role(self) -> str | None:
        """The name of the caller's role; None if the caller is no role."""
        return self.identity.name.split("/")[0] if self.identity.kind == "assumed-role" else None

    @cached_property
    def role_arn(self) -> str:
        """The ARN of the caller's role with its path, which the ARN of a session lacks."""
        return str(self.client("iam").get_role(RoleName=self.role)["Role"]["Arn"])

    def open(self, user: str) -> Any:
        """Open a session as a user, with a token signed by the caller.

        :raises ConnectionFailed: the login failed.
        :raises ExtraMissing: the driver is not installed.
        """
        host, port = self.database.endpoint
        login = Token(user, TokenSigner(self.credentials, self.database.region).token(host, port, user))
        # A login needs the driver only, not what onboarding and audits need besides.
        if self.database.family == "mysql":
            with needs("mysql"):
                from rdsiam.engines.mysql.connection import connect_mysql
            return connect_mysql(host, port, login)
        with needs("postgres"):
            from rdsiam.engines.postgres.connection import open_session
        return open_session(self.database, login, self.database.default_database)
