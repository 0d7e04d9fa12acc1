"""Every error that rdsiam raises on purpose, in one hierarchy.

RdsiamError                    base, never raised itself
├── InvalidRequest             the caller's input is wrong; names the field
├── AccessFileInvalid          access.yaml breaks its rules; names line and key
├── ProxySettingsInvalid       the proxy's configuration breaks its rules; names line and key
├── ListenFailed               the proxy can't listen at a port or path
├── AccessFileUnavailable      access.yaml can't be read; nothing is allowed until it can
├── DatabaseNotFound           no such instance or cluster
├── Unsupported                a kind of database that rdsiam leaves alone
├── DatabaseNotReady           it exists, but can't be worked on in its present state
├── NotAllowed                 access.yaml doesn't let this caller have a token
├── NoSuchEndpoint             the database has no endpoint of that name; names the existing ones
├── Refused                    only the owner can resolve this; nothing was changed
├── EndpointUnreachable        no connection to one of AWS's services; names it
├── RotationFailed             a step of a rotation failed; says which, of which secret, and why
├── ConnectionFailed           a connection failed; says at which stage
├── LeaseTaken                 another run works on the server; it is tried again
├── ExtraMissing               an extra of the wheel is not installed; names it
├── ResultUnavailable          a stored result is not where, or not what, it was
└── LeaseLost                  the run took longer than its lease; it changes nothing further

Messages say what happened, to what, and what to do. They never hold a token, a password or a secret key. Every class
and every refusal has a `code` that scripts can rely on; `docs/errors.md` lists them, made from this module.
"""

from collections.abc import Mapping
from typing import Literal

Stage = Literal["name", "port", "tls", "login"]

#: Code of a refusal → its meaning. A refusal changes nothing.
REFUSALS: Mapping[str, str] = {
    "alternating-unsupported": "Two users can't take turns here: use scheme: single.",
    "database-missing": "A database that access.yaml names does not exist on the server.",
    "iam-unavailable": "RDS has no IAM authentication for the database's engine version in this region.",
    "iam-user": "The user logs in by token, so nothing needs its password.",
    "keeps-password": "The user has to keep its password: it is an administrator, replicates, or has a clone.",
    "lock-out": "A user, or the administrator, would lose its password login.",
    "login-failed": "A login that the step needs does not work.",
    "login-unsupported": "The user logs in by a method whose password rdsiam can't rotate.",
    "master-secret": "RDS does not manage the master's password, or its secret is not in the form that RDS writes.",
    "master-token": "The master has no secret, and the database accepts no token as this user.",
    "name-taken": "An account, role or procedure of that name exists that rdsiam did not create.",
    "name-too-long": "The server has no room for the name.",
    "name-unsafe": "The name can't be written safely in a statement.",
    "needs-confirmation": "The change exceeds a limit. Look at its plan, then run it again with confirmation.",
    "not-replaceable": "rdsiam manages the user that another one is declared to replace.",
    "not-supported": "The engine has no such operation.",
    "password-not-kept": "The server has not kept the user's password.",
    "password-rejected": "The database's policy rejects the passwords that rdsiam makes.",
    "pending-modifications": "RDS would apply pending changes together with the one that rdsiam makes.",
    "refused": "Only the owner can resolve what stands in the way; the message names it.",
    "rights-missing": "A right in the database is missing that the change needs.",
    "rights-not-grantable": "The user has rights that rdsiam gives to no other user.",
    "role-not-found": "A role that access.yaml names does not exist.",
    "role-not-managed": "The owner of a role has not tagged it as one that rdsiam may attach policies to.",
    "role-of-another-account": "A role that access.yaml names belongs to another account than the database.",
    "rotation-not-declared": "access.yaml does not declare the rotation, or no longer as it is recorded.",
    "rotation-unfinished": "A rotation, or the creation of a secret, has begun and not ended.",
    "secret-exists": "A secret of that name exists that rdsiam did not create; it is not taken over.",
    "secret-mismatch": "The secret's value is not what is recorded or declared: another user, database, administrator.",
    "secret-missing": "The secret does not exist, has no value, or is scheduled for deletion.",
    "secret-not-named": "No secret is recorded for the user. Name one, or confirm that rdsiam creates one.",
    "secret-not-permitted": "The secret's owner has not permitted rdsiam to rotate it, or another service rotates it.",
    "secret-not-recorded": "The inventory does not record the secret for this user of this database.",
    "successor-not-declared": "access.yaml declares no successor of the user, or another way than the request.",
    "user-in-use": "Stored objects run in the user's name and would fail without it.",
    "user-is-administrator": "The user is an administrator, whose rights rdsiam gives to no user.",
    "user-missing": "The database has no such user.",
    "user-not-managed": "rdsiam neither created the user nor does access.yaml declare it, so it is left alone.",
}


class RdsiamError(Exception):
    """Base of all errors that rdsiam raises on purpose.

    :param problem: `subject: problem (expected, actual)`, without the remedy.
    :param remedy: what to do; empty if the problem says it.
    :ivar code: stable identifier, in kebab case.
    """

    code = "error"

    def __init__(self, problem: str = "", remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class InvalidRequest(RdsiamError):
    """Input from outside is malformed. `field` names what is wrong, the message never repeats its value.

    :ivar detail: the problem without the field.
    """

    code = "malformed"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class AccessFileInvalid(RdsiamError):
    """access.yaml breaks its rules. `problems` has one line for each, with line number and key.

    :ivar version: which object of the bucket it is; empty for a file from elsewhere.
    :param name: of the file in the message.
    """

    code = "access-file-invalid"

    def __init__(self, problems: list[str], version: str = "", name: str = "access.yaml") -> None:
        super().__init__(f"{name}: {'; '.join(problems)}")
        self.problems = problems
        self.version = version


class ProxySettingsInvalid(RdsiamError):
    """The configuration of the proxy breaks its rules. `problems` has one line for each, with line number and key.

    :param name: of the file; empty for options.
    """

    code = "proxy-settings-invalid"

    def __init__(self, problems: list[str], name: str = "") -> None:
        super().__init__(f"{name}: {'; '.join(problems)}" if name else "; ".join(problems))
        self.problems = problems


class ListenFailed(RdsiamError):
    """The proxy can't listen at a port or a path.

    :param number: the system's number of the error.
    """

    code = "listen-failed"

    def __init__(self, problem: str, remedy: str, number: int = 0) -> None:
        super().__init__(problem, remedy)
        self.number = number


class AccessFileUnavailable(RdsiamError):
    """access.yaml could not be read, so nobody is allowed anything."""

    code = "access-file-unavailable"


class DatabaseNotFound(RdsiamError):
    """RDS knows no instance or cluster of that ARN or identifier."""

    code = "database-not-found"


class Unsupported(RdsiamError):
    """A kind of database that rdsiam leaves alone: another engine, a member of a cluster, a replica."""

    code = "unsupported"


class DatabaseNotReady(RdsiamError):
    """The database exists, but is in a state in which it can't be worked on yet."""

    code = "database-not-ready"


class NotAllowed(RdsiamError):
    """access.yaml doesn't let this caller log in as that user there. The same for what doesn't exist."""

    code = "not-allowed"


class NoSuchEndpoint(RdsiamError):
    """The database has no endpoint of that name. Only a caller who may log in to the database gets this."""

    code = "no-such-endpoint"


class Refused(RdsiamError):
    """Something that only the owner can resolve stands in the way. Nothing was changed.

    :param code: a key of `REFUSALS`.
    """

    code = "refused"

    def __init__(self, problem: str, remedy: str = "", code: str = "refused") -> None:
        super().__init__(problem, remedy)
        self.code = code


class NeedsConfirmation(Refused):
    """A change exceeds a limit and needs confirmation."""

    code = "needs-confirmation"

    def __init__(
        self,
        problem: str,
        remedy: str = 'if that is intended, run it again with "confirm": true; otherwise correct access.yaml',
    ) -> None:
        super().__init__(problem, remedy, "needs-confirmation")


class NothingListed(RdsiamError):
    """RDS lists no database, and the inventory records some."""

    code = "nothing-listed"


class EndpointUnreachable(RdsiamError):
    """No connection to an AWS service could be made: in a VPC, its endpoint or the way to it is missing.

    :ivar service: its name as in the endpoint's, `com.amazonaws.<region>.<service>`.
    """

    code = "endpoint-unreachable"

    def __init__(self, service: str, url: str) -> None:
        super().__init__(
            f"{service} can't be reached at {url}: a function in a VPC needs an endpoint for {service} (parameter "
            "Endpoints), or a NAT gateway; and its security group must let HTTPS out"
        )
        self.service = service


class RotationFailed(RdsiamError):
    """A step of a rotation failed. The secret is as it was or further, and the step may be repeated."""

    code = "rotation-failed"

    def __init__(self, step: str, secret: str, cause: str, remedy: str = "") -> None:
        super().__init__(f"{step} of {secret} failed: {cause}", remedy)
        self.step = step
        self.secret = secret


class ConnectionFailed(RdsiamError):
    """A connection to a database failed. `stage` says how far it came: name, port, tls or login.

    :ivar server_code: the server's own error code (SQLSTATE, or MySQL's number as text) if the login failed, else None.
    """

    code = "connection-failed"

    def __init__(self, host: str, port: int, stage: Stage, problem: str, server_code: str | None = None) -> None:
        super().__init__(f"connecting to {host}:{port} failed at {stage}: {problem}")
        self.host = host
        self.port = port
        self.stage = stage
        self.server_code = server_code


class LeaseTaken(RdsiamError):
    """Another run works on the server.

    :ivar valid_for: seconds for which any lease is valid.
    """

    code = "lease-taken"

    def __init__(self, server: str, holder: str, until: str, valid_for: int) -> None:
        super().__init__(
            f"another run of rdsiam works on {server}: {holder}, until {until} at most; this run tries again by "
            "itself; if it has given up, run it again"
        )
        self.valid_for = valid_for


class LeaseLost(RdsiamError):
    """The lease expired before its step ended. Another run may be at work, so this one changes nothing further."""

    code = "lease-lost"


class ResultUnavailable(RdsiamError):
    """A result that was stored for an answer or a checkpoint is elsewhere, or has been changed."""

    code = "result-unavailable"


class ExtraMissing(RdsiamError):
    """This part of rdsiam needs a package that isn't installed.

    :param extras: the extras of the wheel that install the package.
    """

    code = "extra-missing"

    def __init__(self, package: str, extras: tuple[str, ...]) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'rdsiam[{','.join(extras)}]'")
