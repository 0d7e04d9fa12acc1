"""The login that the doctor diagnoses, and the result of one check of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds import Database, Family
from rdsiam.core.arn import Arn
from rdsiam.core.extras import needs
from rdsiam.engines.logins import Token
from rdsiam.errors import RdsiamError
from rdsiam.signer import Credentials, TokenSigner
from rdsiam.tokens.endpoints import region_of

if TYPE_CHECKING:
    from rdsiam.engines.protocols import Engine

State = Literal["OK", "FAIL", "UNKNOWN"]
#: The engine that stands for a family if only the API has named the database.
_ENGINES = {"postgres": "postgres", "mysql": "mysql"}


@dataclass(frozen=True)
class Verdict:
    """Result of a check.

    :ivar fix: what to do, a command if there is one; empty if the state is OK.
    :ivar skipped: another check makes this one impossible or meaningless, and has the advice.
    """

    state: State
    detail: str
    fix: str = ""
    skipped: bool = False


def ok(detail: str) -> Verdict:
    """Return a verdict that this part works."""
    return Verdict("OK", detail)


def fail(detail: str, fix: str) -> Verdict:
    """Return a verdict that this part is wrong."""
    return Verdict("FAIL", detail, fix)


def unknown(detail: str, fix: str) -> Verdict:
    """Return a verdict that this part could not be checked."""
    return Verdict("UNKNOWN", detail, fix)


def skip(detail: str, other: str) -> Verdict:
    """Return a verdict that this part was not checked, because of another check."""
    return Verdict("UNKNOWN", f"not checked: {detail}", f"see {other}", skipped=True)


@dataclass(frozen=True)
class Undescribed:
    """A database that the caller could not describe.

    :ivar name: as the caller named it.
    :ivar verdict: the call that failed, and what to do.
    """

    name: str
    verdict: Verdict


class NotDescribed(RdsiamError):
    """A check needs a description of the database, which the caller could not get."""

    code = "not-described"


class VendedLogin(Protocol):
    """A token of the API and the endpoint that accepts it."""

    @property
    def token(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def family(self) -> Family: ...
    @property
    def database(self) -> str: ...


@dataclass(frozen=True)
class ListedDatabase:
    """A database in the API's list of those that the caller may log in to."""

    arn: str
    engine: str
    host: str
    port: int


@dataclass(frozen=True)
class UserRecord:
    """The user in rdsiam's inventory, which operators may read.

    :ivar onboarded: rdsiam has onboarded the database.
    :ivar revoked: reason of the revocation; None if the user is not revoked.
    :ivar disabled: access.yaml no longer declares the user, and rdsiam takes or has taken its login.
    """

    onboarded: bool
    revoked: str | None = None
    disabled: bool = False


@dataclass(frozen=True)
class LoginCase:
    """A user's login on a database, with the caller's own credentials.

    :ivar target: the database as RDS describes it to the caller.
    :ivar client: returns a client of an AWS service, by its name.
    :ivar expiry: of the credentials; None if they have none, or don't name it.
    :ivar region: from the caller's configuration.
    :ivar ask: asks the API for a token as the user; None if there is no API to ask.
    :ivar listing: looks the database up in the API's list; returns None if it isn't in there.
    :ivar record: reads the inventory; None if there is none to read.
    """

    target: Database | Undescribed
    user: str
    client: Callable[[str], Any]
    credentials: Credentials
    expiry: datetime | None
    region: str
    ask: Callable[[], VendedLogin] | None = None
    listing: Callable[[], ListedDatabase | None] | None = None
    record: Callable[[Database], UserRecord] | None = None

    @property
    def database(self) -> Database:
        """The database as RDS describes it.

        :raises NotDescribed: the caller could not describe it.
        """
        if isinstance(self.target, Undescribed):
            raise NotDescribed(f"{self.target.name} is not described", "see database")
        return self.target

    @property
    def described(self) -> bool:
        """Whether the caller could describe the database."""
        return not isinstance(self.target, Undescribed)

    @property
    def name(self) -> str:
        """The identifier of the database."""
        return self.target.name if isinstance(self.target, Undescribed) else self.target.identifier

    @property
    def owner(self) -> str:
        """The identifier of what has users and policies: the database; of a cluster's member its cluster."""
        return self.name if isinstance(self.target, Undescribed) else self.target.cluster or self.name

    @property
    def onboard_users(self) -> str:
        """The command that makes the users: those of a replica are its source's, and a proxy has none of its own."""
        if isinstance(self.target, Undescribed) or self.target.cluster:
            return f"rdsiam onboard {self.owner}"
        if self.target.kind == "proxy":
            return f"rdsiam onboard the database behind {self.name}"
        return f"rdsiam onboard {self.target.replica_of or self.name}"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port, from RDS or else from the API.

        :raises NotDescribed: neither tells it.
        :raises DatabaseNotReady: RDS reports none yet.
        """
        return self._reachable.endpoint

    @property
    def family(self) -> Family:
        """The SQL that the server speaks.

        :raises NotDescribed: neither RDS nor the API tells it.
        """
        return self._reachable.family

    @property
    def region_of_database(self) -> str:
        """The region of the database.

        :raises NotDescribed: neither RDS nor the API tells it.
        """
        return self._reachable.region

    @property
    def engine(self) -> "Engine":
        """The SQL of the database's family.

        :raises ExtraMissing: a package that onboarding and audits need is not installed.
        """
        with needs("access", "mysql", "postgres"):
            from rdsiam.engines.registry import ENGINES
        return ENGINES[self.family]

    @cached_property
    def vended(self) -> VendedLogin | RdsiamError | None:
        """The API's answer to a request for a token; None if there is no API to ask."""
        if self.ask is None:
            return None
        try:
            return self.ask()
        except RdsiamError as error:
            return error

    @cached_property
    def listed(self) -> ListedDatabase | None:
        """The database in the API's list; None if it is not in there, or the list can't be read."""
        if self.listing is None:
            return None
        try:
            return self.listing()
        except RdsiamError:
            return None  # the check of the API has its error

    @property
    def served_by_api(self) -> bool:
        """Whether the caller's tokens come from the API, now or if it gives a reason: it signs none itself."""
        return self.uses_api or self.api_code == "reason-required"

    @property
    def named(self) -> bool:
        """Whether the API's answer shows that an entry names the caller, and that the user is not revoked."""
        return self.served_by_api or self.api_code == "signs-itself"

    @property
    def api_code(self) -> str:
        """The code of the API's denial; empty if there is none."""
        return self.vended.code if isinstance(self.vended, RdsiamError) else ""

    @property
    def uses_api(self) -> bool:
        """Whether the API gives the caller tokens for this login, so that the caller's own policies don't matter."""
        return self.vended is not None and not isinstance(self.vended, RdsiamError)

    @cached_property
    def login_error(self) -> RdsiamError | None:
        """The error of a login with a token of the API or, without one, of the caller; None if the login works."""
        try:
            if self.vended is None or isinstance(self.vended, RdsiamError):
                self.open(self.user).close()
            else:
                self._connect(Token(self.user, self.vended.token)).close()
        except RdsiamError as error:
            return error
        return None

    @cached_property
    def _identity(self) -> dict[str, Any] | ClientError | BotoCoreError:
        try:
            answer: dict[str, Any] = self.client("sts").get_caller_identity()
        except (ClientError, BotoCoreError) as error:
            return error
        return answer

    @property
    def caller_identity(self) -> dict[str, Any]:
        """STS's answer about the caller, asked for once, since each attempt to reach AWS may take seconds."""
        if isinstance(self._identity, Exception):
            raise self._identity
        return self._identity

    @property
    def identity(self) -> Arn:
        """The caller, as STS names it."""
        return Arn.parse(str(self.caller_identity["Arn"]))

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
        host, port = self.endpoint
        region = region_of(host) or self.region_of_database
        return self._connect(Token(user, TokenSigner(self.credentials, region).token(host, port, user)))

    def _connect(self, login: Token) -> Any:
        """Open a session. A login needs the driver only, not what onboarding and audits need besides."""
        database = self._reachable
        if database.family == "mysql":
            with needs("mysql"):
                from rdsiam.engines.mysql.connection import connect_mysql
            return connect_mysql(*database.endpoint, login)
        with needs("postgres"):
            from rdsiam.engines.postgres.connection import open_session
        return open_session(database, login, database.default_database)

    @property
    def _reachable(self) -> Database:
        """The database, or as much of it as the API tells, for a connection.

        :raises NotDescribed: the API tells nothing of it.
        """
        if self.described:
            return self.database
        if self.vended is not None and not isinstance(self.vended, RdsiamError):
            engine = _ENGINES[self.vended.family]
            return self._stand_in(self.vended.database, engine, self.vended.host, self.vended.port)
        if self.listed is not None:
            return self._stand_in(self.listed.arn, self.listed.engine, self.listed.host, self.listed.port)
        return self.database

    def _stand_in(self, arn: str, engine: str, host: str, port: int) -> Database:
        return Database(
            arn=arn,
            identifier=self.name,
            engine=engine,
            engine_version="",
            resource_id="",
            status="",
            host=host,
            port=port,
            iam_enabled=True,
            master_user="",
        )
