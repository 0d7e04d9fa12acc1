"""Why a login fails: goes through all that can be wrong, in the order of a login, and says what mends it."""

import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError

from rdsiam.aws.rds import Database
from rdsiam.core import times
from rdsiam.core.arn import Arn
from rdsiam.engines.logins import AUDITOR, Token
from rdsiam.engines.protocols import QueryFailed
from rdsiam.engines.registry import ENGINES
from rdsiam.errors import ConnectionFailed
from rdsiam.signer import LIFETIME, Credentials, TokenSigner
from rdsiam.tokens.endpoints import region_of
from rdsiam.tokens.trust import ca_for

State = Literal["OK", "FAIL", "UNKNOWN"]
_SECONDS = 5
_SKEW = timedelta(minutes=1)


@dataclass(frozen=True)
class Row:
    """One thing that was looked at.

    :ivar fix: what to do, a command where there is one; empty where it is OK.
    """

    check: str
    state: State
    detail: str
    fix: str = ""


class Doctor:
    """Looks at one user's login on one database, with the caller's own credentials; changes nothing.

    :param client: returns a client of an AWS service, by its name.
    :param credentials: the caller's, and when they end; None for lasting ones.
    :param region: that the caller's configuration names.
    """

    def __init__(
        self,
        database: Database,
        user: str,
        client: Callable[[str], Any],
        credentials: tuple[Credentials, datetime | None],
        region: str,
    ) -> None:
        self._database = database
        self._user = user
        self._client = client
        self._credentials, self._end = credentials
        self._region = region
        self._name = database.identifier
        self._identity = ""

    def rows(self) -> Iterator[Row]:
        """Yield a row for each check as it is done; a check that can't be done is UNKNOWN, never OK."""
        checks: tuple[tuple[str, Callable[[], Row]], ...] = (
            ("name", self._resolves),
            ("port", self._answers),
            ("TLS", self._verifies),
            ("IAM authentication", self._enabled),
            ("pending changes", self._pending),
            ("identity", self._who),
            ("role or plugin", self._account),
            ("login", self._logs_in),
            ("resource id", self._policies),
            ("policy decision", self._simulated),
            ("clock", self._clock),
            ("credentials", self._life),
            ("region", self._regions),
            ("proxy", self._proxies),
            ("rate", self._rate),
        )
        for check, look in checks:
            try:
                yield look()
            except ClientError as error:
                code, what = error.response["Error"]["Code"], error.operation_name
                yield Row(check, "UNKNOWN", f"{what}: {code}", f"ask somebody who may call {what}")
            except (BotoCoreError, OSError) as error:
                yield Row(check, "UNKNOWN", f"{type(error).__name__}", "try again")

    # --- on the way there ---

    def _resolves(self) -> Row:
        host, port = self._database.endpoint
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            fix = f"aws rds describe-db-instances --db-instance-identifier {self._name}"
            return Row("name", "FAIL", f"{host} does not resolve: {error.strerror}", fix)
        return Row("name", "OK", f"{host} is {', '.join(sorted({str(one[4][0]) for one in found}))}")

    def _answers(self) -> Row:
        host, port = self._database.endpoint
        try:
            socket.create_connection((host, port), _SECONDS).close()
        except OSError as error:
            fix = f"let your address into the security group of {self._name}, or go through a tunnel: --via"
            return Row("port", "FAIL", f"{host}:{port}: {error.strerror or error}", fix)
        return Row("port", "OK", f"{host}:{port} answers")

    def _verifies(self) -> Row:
        host, port = self._database.endpoint
        context = ssl.create_default_context(cafile=ca_for(host))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        try:
            with socket.create_connection((host, port), _SECONDS) as plain:
                _ask_for_tls(plain, self._database.family)
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    end = str((secured.getpeercert() or {}).get("notAfter"))
        except ssl.SSLCertVerificationError as error:
            return Row("TLS", "FAIL", error.verify_message, "unset RDSIAM_CA, or let it name the RDS bundle")
        except _NoTlsError:
            return Row("TLS", "FAIL", "the server offers no TLS", "see the parameter group: rds.force_ssl, ssl")
        except OSError as error:
            return Row("TLS", "UNKNOWN", f"no handshake: {error.strerror or type(error).__name__}", "see port")
        return Row("TLS", "OK", f"certificate and name verified; valid until {end}")

    # --- the database ---

    def _enabled(self) -> Row:
        if self._database.iam_enabled:
            return Row("IAM authentication", "OK", "it is on")
        return Row("IAM authentication", "FAIL", "it is off", _modify(self._name))

    def _pending(self) -> Row:
        pending = self._database.pending
        if not pending:
            return Row("pending changes", "OK", f"none; {self._name} is {self._database.status}")
        waiting = f"waiting for the maintenance window: {', '.join(pending)}"
        if "IAMDatabaseAuthenticationEnabled" in pending:
            return Row("pending changes", "FAIL", waiting, _modify(self._name))
        return Row("pending changes", "OK", waiting)

    def _who(self) -> Row:
        self._identity = str(self._client("sts").get_caller_identity()["Arn"])
        account = Arn.parse(self._identity).account
        if account != self._database.account:
            fix = f"assume a role of account {self._database.account}: only those may log in there"
            return Row("identity", "FAIL", f"{self._identity} is of another account", fix)
        return Row("identity", "OK", self._identity)

    def _account(self) -> Row:
        """Look into the catalogs as the auditor, where the caller may be it; else the login itself has to tell."""
        try:
            session = self._open(AUDITOR)
        except ConnectionFailed:
            fix = f"rdsiam audit --database {self._name}"
            return Row("role or plugin", "UNKNOWN", "you may not read the catalogs: see login", fix)
        try:
            engine = ENGINES[self._database.family]
            read = engine.audit(session, self._database)
        except QueryFailed as error:
            fix = f"rdsiam onboard {self._name}: it gives rdsiam_auditor its rights anew"
            return Row("role or plugin", "UNKNOWN", str(error), fix)
        finally:
            session.close()
        found = [one for one in read.accounts if one.name == self._user and one.login]
        if not found:
            fix = f"declare it in access.yaml, then rdsiam onboard {self._name}"
            return Row("role or plugin", "FAIL", "there is no such user; names are case-sensitive", fix)
        if not all(one.iam for one in found):
            where = [one.host or one.name for one in found if not one.iam]
            what = "is not in rds_iam" if self._database.family == "postgres" else "has another plugin"
            fix = f"rdsiam onboard {self._name} --plan"
            return Row("role or plugin", "FAIL", f"{self._user} {what} ({', '.join(where)})", fix)
        return Row("role or plugin", "OK", f"{self._user} logs in by token")

    def _logs_in(self) -> Row:
        try:
            self._open(self._user).close()
        except ConnectionFailed as error:
            if error.stage != "login":
                return Row("login", "UNKNOWN", f"it came to {error.stage} only", "see above")
            if "password authentication failed" in str(error) or "authentication method" in str(error):
                fix = f"rdsiam onboard {self._name} --plan"
                return Row("login", "FAIL", f"the server asks {self._user} for a password: not in rds_iam", fix)
            return Row("login", "FAIL", "the server refuses a token that you have signed now", "see the rows below")
        return Row("login", "OK", f"a token that you sign logs in as {self._user}")

    def _open(self, user: str) -> Any:
        host, port = self._database.endpoint
        token = TokenSigner(self._credentials, self._database.region).token(host, port, user)
        engine = ENGINES[self._database.family]
        return engine.connect(self._database, Token(user, token), self._database.default_database)

    # --- who signs ---

    def _policies(self) -> Row:
        """Compare what the caller's role may connect to with this database and user."""
        if ":assumed-role/" not in self._identity:
            return Row("resource id", "UNKNOWN", "you are no role: its policies are not looked at", "see login")
        role = self._identity.split("/")[1]
        wanted = self._database.connect_arn(self._user)
        named = list(self._connects(role))
        if any(_covers(one, wanted) for one in named):
            return Row("resource id", "OK", f"a policy of {role} names {wanted}")
        others = [one for one in named if one.endswith((f"/{self._user}", "/*"))]
        fix = f"rdsiam onboard {self._name}: it writes the policy for {wanted}"
        if others:
            return Row("resource id", "FAIL", f"policies name another database: {', '.join(others[:3])}", fix)
        return Row("resource id", "FAIL", f"no policy of {role} names {wanted}", fix)

    def _connects(self, role: str) -> Iterator[str]:
        """Yield the resources of a role's statements that allow rds-db:connect."""
        iam = self._client("iam")
        documents = [
            iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ]
        for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
            got = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)
            documents.append(got["PolicyVersion"]["Document"])
        for document in documents:
            read = json.loads(unquote(document)) if isinstance(document, str) else document
            for statement in _listed(read.get("Statement")):
                actions = {str(one).lower() for one in _listed(statement.get("Action"))}
                if statement.get("Effect") == "Allow" and actions & {"rds-db:connect", "rds-db:*", "*"}:
                    yield from map(str, _listed(statement.get("Resource")))

    def _simulated(self) -> Row:
        """Ask IAM's simulator; it is known to be unreliable for rds-db:connect, so that it never decides here."""
        if ":assumed-role/" not in self._identity:
            return Row("policy decision", "UNKNOWN", "only roles are simulated", "see login")
        identity = Arn.parse(self._identity)
        role = identity.name.partition("/")[0]
        arn = str(Arn(identity.partition, "iam", "", identity.account, f"role/{role}"))
        answer = self._client("iam").simulate_principal_policy(
            PolicySourceArn=arn, ActionNames=["rds-db:connect"], ResourceArns=[self._database.connect_arn(self._user)]
        )
        decision = answer["EvaluationResults"][0]["EvalDecision"]
        if decision == "allowed":
            return Row("policy decision", "OK", "IAM's simulator allows it; it knows no SCP and no session policy")
        fix = "look for an explicit deny, a permissions boundary, a session policy or an SCP"
        return Row("policy decision", "UNKNOWN", f"IAM's simulator says {decision}, and may be wrong", fix)

    def _clock(self) -> Row:
        answer = self._client("sts").get_caller_identity()
        stamp = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if stamp is None:
            return Row("clock", "UNKNOWN", "AWS's answer has no date", "timedatectl status")
        skew = abs(parsedate_to_datetime(stamp).timestamp() - time.time())
        if skew > _SKEW.total_seconds():
            return Row("clock", "FAIL", f"this machine is {skew:.0f} s off", "timedatectl set-ntp true")
        return Row("clock", "OK", f"within {skew:.0f} s of AWS's")

    def _life(self) -> Row:
        if self._end is None:
            return Row("credentials", "OK", "they don't end by themselves, or don't tell")
        left = (self._end - datetime.now(UTC)).total_seconds()
        until = times.text(self._end)
        if left <= 0:
            return Row("credentials", "FAIL", f"they ended at {until}; signing goes on regardless", "aws sso login")
        if left < LIFETIME:
            detail = f"they end at {until}, and every token signed with them then at the latest"
            return Row("credentials", "FAIL", detail, "aws sso login")
        return Row("credentials", "OK", f"until {until}")

    def _regions(self) -> Row:
        named = region_of(self._database.endpoint[0]) or self._database.region
        if named != self._region:
            fix = f"export AWS_REGION={named}"
            return Row("region", "FAIL", f"yours is {self._region}, the database's is {named}", fix)
        return Row("region", "OK", named)

    # --- beside it ---

    def _proxies(self) -> Row:
        found = []
        for proxy in self._client("rds").describe_db_proxies()["DBProxies"]:
            if proxy.get("DefaultAuthScheme") == "IAM_AUTH":
                continue
            targets = self._client("rds").describe_db_proxy_targets(DBProxyName=proxy["DBProxyName"])["Targets"]
            if any(self._name in (one.get("RdsResourceId"), one.get("TrackedClusterId")) for one in targets):
                found.append(str(proxy["DBProxyName"]))
        if found:
            detail = f"behind {', '.join(found)}, which logs in by password: users of it can't be IAM users here"
            return Row("proxy", "OK", detail)
        return Row("proxy", "OK", "no proxy that logs in by password is in front")

    def _rate(self) -> Row:
        now = datetime.now(UTC)
        points = self._client("cloudwatch").get_metric_statistics(
            Namespace="AWS/RDS",
            MetricName="IamDbAuthConnectionFailureThrottling",
            Dimensions=[{"Name": "DBInstanceIdentifier", "Value": self._name}],
            StartTime=now - timedelta(minutes=15),
            EndTime=now,
            Period=900,
            Statistics=["Sum"],
        )["Datapoints"]
        throttled = sum(point["Sum"] for point in points)
        if throttled:
            fix = "reuse connections; retry with a growing, random pause; a larger instance class"
            return Row("rate", "FAIL", f"{throttled:.0f} logins were throttled within 15 minutes", fix)
        return Row("rate", "OK", "no login was throttled within 15 minutes")


class _NoTlsError(Exception):
    """The server speaks no TLS."""


def _ask_for_tls(plain: socket.socket, family: str) -> None:
    """Do what comes before the TLS handshake: PostgreSQL's SSLRequest, or MySQL's greeting and SSLRequest.

    Source: "SSL Session Encryption", PostgreSQL; "Protocol::SSLRequest", MySQL.
    """
    if family == "postgres":
        plain.sendall(struct.pack("!ii", 8, 80877103))
        if plain.recv(1) != b"S":
            raise _NoTlsError
        return
    header = _exactly(plain, 4)
    greeting = _exactly(plain, int.from_bytes(header[:3], "little"))
    version_end = greeting.index(b"\0", 1)
    low = int.from_bytes(greeting[version_end + 14 : version_end + 16], "little")
    tls, protocol_41, secure = 0x0800, 0x0200, 0x8000
    if not low & tls:
        raise _NoTlsError
    body = struct.pack("<IIB23x", tls | protocol_41 | secure, 1 << 24, 45)
    plain.sendall(len(body).to_bytes(3, "little") + b"\x01" + body)


def _exactly(plain: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = plain.recv(size - len(data))
        if not more:
            raise OSError("the server closed the connection")
        data += more
    return data


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _covers(pattern: str, arn: str) -> bool:
    """Tell whether IAM's pattern with `*` and `?` covers the ARN."""
    from fnmatch import translate
    from re import match

    return match(translate(pattern.replace("[", "[[]")), arn) is not None


def _modify(name: str) -> str:
    return (
        f"aws rds modify-db-instance --db-instance-identifier {name} --enable-iam-database-authentication "
        "--apply-immediately"
    )
