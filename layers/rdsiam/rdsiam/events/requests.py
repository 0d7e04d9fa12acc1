"""Requests to the functions, checked field by field; errors name the field and never repeat its value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from rdsiam.errors import InvalidRequest

#: How many databases one request may name, and how many batches a run may have.
MOST_DATABASES, MOST_BATCHES = 1000, 100_000
MOST_FINDINGS = 100
MOST_USERS = 100
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
_LONGEST_USER = 80
_LONGEST_WATCH = 90 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FINDING = re.compile(r"[0-9a-f]{20}", re.ASCII)
_AUDIT = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
_ARN = re.compile(r"arn:aws[a-z-]{0,12}:rds:[a-z0-9-]{1,32}:\d{12}:[a-z-]{1,20}:[A-Za-z0-9:._-]{1,255}")


_SECRET = re.compile(r"arn:aws[a-z-]{0,12}:secretsmanager:[a-z0-9-]{1,32}:\d{12}:secret:[A-Za-z0-9/_+=.@!-]{1,519}")
Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]
STEPS: tuple[Step, ...] = get_args(Step)


@dataclass(frozen=True)
class RotationRequest:
    """What Secrets Manager asks of RotateFunction.

    :ivar token: the id of the version that is to become the current one.
    :ivar rotation_token: proves to Secrets Manager who calls back; a secret.
    """

    step: Step
    secret: str
    token: str
    rotation_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DatabaseRequest:
    """A request that names a database.

    :ivar confirm: what exceeds the change limit is intended, and what the current attributes would give is to be given.
    :ivar beyond_limit: what exceeds the change limit is intended, and nothing else is confirmed.
    :ivar revoke: users to revoke, sorted, and `reason` why.
    :ivar lift: users whose revocation is to be lifted, sorted.
    :ivar withdraw: of policies, to take logins away and give none.
    :ivar assume_revoked: of a plan of policies, users to be taken for revoked; None for those that are.
    """

    database: str
    plan: bool = False
    confirm: bool = False
    revoke: tuple[str, ...] = ()
    reason: str = ""
    lift: tuple[str, ...] = ()
    withdraw: bool = False
    assume_revoked: tuple[str, ...] | None = None
    beyond_limit: bool = False


@dataclass(frozen=True)
class MigrateRequest:
    """A request to migrate a user from its password to tokens.

    :ivar database: ARN.
    :ivar watch: for how many seconds there must be no login of the old user.
    """

    database: str
    user: str
    plan: bool = False
    confirm: bool = False
    in_place: bool = False
    undo: bool = False
    watch: int = 7 * 86400


@dataclass(frozen=True)
class MigrationStatusRequest:
    """A request for how far migrations have come: of one database, or of the fleet."""

    database: str | None = None


@dataclass(frozen=True)
class ReconcileRequest:
    """A request to compare the whole fleet with access.yaml."""

    plan: bool = False
    confirm: bool = False


@dataclass(frozen=True)
class AuditRequest:
    """A request for an audit, or for mending what one has found.

    :ivar databases: ARNs of the databases to audit, sorted; None for the whole fleet.
    :ivar remediate: ids of findings to mend, sorted; empty for an audit.
    """

    databases: tuple[str, ...] | None = None
    remediate: tuple[str, ...] = ()
    plan: bool = False
    confirm: bool = False


@dataclass(frozen=True)
class BatchRequest:
    """A request to audit one batch of a run."""

    audit: str
    number: int


@dataclass(frozen=True)
class SecretsRequest:
    """What SecretsFunction is asked.

    :ivar action: `follow` access.yaml for a database; the others look after secrets that are rotated already.
    :ivar database: ARN, of `follow`.
    :ivar user: whom `follow` is about; None for all.
    :ivar databases: ARNs of those whose secrets are listed; None for all.
    :ivar secret: ARN, of the actions that are about one; of `follow` the secret that an operator names for the user.
    :ivar reason: why a rotation is asked for.
    :ivar withdraw: of `follow`, end what is no longer declared and set nothing up.
    """

    action: Literal["follow", "list", "show", "rotate", "unstick", "sessions"]
    database: str = ""
    user: str | None = None
    databases: tuple[str, ...] | None = None
    secret: str = ""
    reason: str | None = None
    plan: bool = False
    confirm: bool = False
    withdraw: bool = False


def audit_request(event: Any) -> AuditRequest:
    """Read what AuditFunction is invoked with.

    `{}`, `{"databases": ["<arn>", …]}`, or `{"remediate": ["<finding id>", …]}` with `plan` and `confirm`.

    :raises InvalidRequest: naming the field. No databases at all is an error, never "all" and never "none".
    """
    if isinstance(event, Mapping) and "remediate" in event:
        return _remediation(event)
    _check(event, {"databases"})
    if "databases" not in event:
        return AuditRequest()
    databases = event["databases"]
    if not isinstance(databases, list) or not 1 <= len(databases) <= MOST_DATABASES:
        raise InvalidRequest("databases", f"must be a list of 1–{MOST_DATABASES} ARNs; leave it out to audit all")
    return AuditRequest(tuple(sorted({_arn("databases", one) for one in databases})))


def _remediation(event: Mapping[str, Any]) -> AuditRequest:
    _check(event, {"remediate", "plan", "confirm"})
    ids = event["remediate"]
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_FINDINGS:
        raise InvalidRequest("remediate", f"must be a list of 1–{MOST_FINDINGS} ids of findings")
    if not all(isinstance(one, str) and _FINDING.fullmatch(one) for one in ids):
        raise InvalidRequest("remediate", "must have ids of findings, as the report shows them")
    return AuditRequest(
        remediate=tuple(sorted(set(ids))), plan=event.get("plan", False), confirm=event.get("confirm", False)
    )


def batch_request(event: Any) -> BatchRequest:
    """Read what AuditBatchFunction is invoked with: `{"audit": "<id>", "batch": n}`.

    :raises InvalidRequest: naming the field.
    """
    _check(event, {"audit", "batch"})
    audit, number = event.get("audit"), event.get("batch")
    if not isinstance(audit, str) or _AUDIT.fullmatch(audit) is None:
        raise InvalidRequest("audit", "must be the id of an audit")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < MOST_BATCHES:
        raise InvalidRequest("batch", f"must be a number, 0–{MOST_BATCHES - 1}")
    return BatchRequest(audit, number)


def onboard_request(event: Any) -> DatabaseRequest | ReconcileRequest:
    """Read what OnboardFunction is invoked with.

    `{"database": "<arn>"}` or `{"reconcile": true}`, both with `plan` and `confirm`, the former with `beyond_limit` in
    its place; or a database with users to `revoke`, and `reason`, or to `lift`.

    :raises InvalidRequest: naming the field.
    """
    if isinstance(event, Mapping) and "reconcile" in event:
        _check(event, {"reconcile", "plan", "confirm"})
        if event["reconcile"] is not True:
            raise InvalidRequest("reconcile", "must be true")
        return ReconcileRequest(event.get("plan", False), event.get("confirm", False))
    if isinstance(event, Mapping) and ("revoke" in event or "lift" in event):
        return _revocation(event)
    return _request(event, {"database", "plan", "confirm", "beyond_limit"})


def migrate_request(event: Any) -> MigrateRequest | MigrationStatusRequest:
    """Read what MigrateFunction is invoked with.

    `{"database": "<arn>", "user": "<name>"}` with `plan`, `confirm`, `in_place`, `undo` and `watch`, or
    `{"status": true, "database"?: "<arn>"}`.

    :raises InvalidRequest: naming the field.
    """
    if isinstance(event, Mapping) and "status" in event:
        _check(event, {"status", "database"})
        if event["status"] is not True:
            raise InvalidRequest("status", "must be true")
        return MigrationStatusRequest(_arn("database", event["database"]) if "database" in event else None)
    _check(event, {"database", "user", "plan", "confirm", "in_place", "undo", "watch"})
    user = event.get("user")
    if not isinstance(user, str) or not 0 < len(user) <= _LONGEST_USER or not user.isprintable():
        raise InvalidRequest("user", f"must be the name of a database user, at most {_LONGEST_USER} characters")
    for name in ("in_place", "undo"):
        if not isinstance(event.get(name, False), bool):
            raise InvalidRequest(name, "must be true or false")
    flags = {name: event.get(name, False) for name in ("plan", "confirm", "in_place", "undo")}
    return MigrateRequest(_arn("database", event.get("database")), user, watch=_duration(event), **flags)


def _duration(event: Mapping[str, Any]) -> int:
    """Return `watch` in seconds."""
    value = event.get("watch", "7d")
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value) if isinstance(value, str) else None
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_WATCH:
        raise InvalidRequest("watch", "must be a number of s, m, h or d, such as 7d, and 90d at most")
    return seconds


def policy_request(event: Any) -> DatabaseRequest:
    """Read what PolicyFunction is invoked with: `{"database": "<arn>", "plan"?, "confirm"?, "assume_revoked"?}`.

    `revoked`, users to be taken for revoked, and `confirm` may stand in a plan only: what is written follows the
    inventory. Or `{"database": "<arn>", "withdraw": true}`, to take logins away and give none.

    :raises InvalidRequest: naming the field.
    """
    if isinstance(event, Mapping) and "withdraw" in event:
        request = _request(event, {"database", "withdraw"})
        if event["withdraw"] is not True:
            raise InvalidRequest("withdraw", "must be true")
        return replace(request, withdraw=True)
    request = _request(event, {"database", "plan", "confirm", "assume_revoked"})
    if not request.plan:
        for name in ("confirm", "assume_revoked"):
            if name in event:
                raise InvalidRequest(name, "may stand in a plan only")
    if "assume_revoked" not in event:
        return request
    return replace(request, assume_revoked=_users(event, "assume_revoked", fewest=0))


def _revocation(event: Mapping[str, Any]) -> DatabaseRequest:
    """Read `{"database", "revoke": ["<user>", …], "reason", "plan"?}` or `{"database", "lift": […], "plan"?}`."""
    if "lift" in event:
        return replace(_request(event, {"database", "lift", "plan"}), lift=_users(event, "lift"))
    request = _request(event, {"database", "revoke", "reason", "plan"})
    reason = event.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > 500 or not reason.isprintable():
        raise InvalidRequest("reason", "must say why, in at most 500 printable characters")
    return replace(request, revoke=_users(event, "revoke"), reason=reason.strip())


def _users(event: Mapping[str, Any], field: str, fewest: int = 1) -> tuple[str, ...]:
    users = event[field]
    if not isinstance(users, list) or not fewest <= len(users) <= MOST_USERS:
        raise InvalidRequest(field, f"must be a list of {fewest}–{MOST_USERS} users")
    if not all(isinstance(one, str) and _USER.fullmatch(one) for one in users):
        raise InvalidRequest(field, "must have names of users as access.yaml has them")
    return tuple(sorted(set(users)))


def secrets_request(event: Any) -> SecretsRequest:
    """Read what SecretsFunction is invoked with.

    `{"database": "<arn>"}` with `user`, `secret`, `plan` and `confirm`, or with `withdraw` alone; `{"list": true}` with
    `databases`; or one of `show`, `rotate` (with `reason`), `unstick` (with `plan`) and `sessions`, each with the ARN
    of a secret.

    :raises InvalidRequest: naming the field.
    """
    if isinstance(event, Mapping) and "list" in event:
        _check(event, {"list", "databases"})
        if event["list"] is not True:
            raise InvalidRequest("list", "must be true")
        named = event.get("databases")
        if named is not None and (not isinstance(named, list) or not 1 <= len(named) <= MOST_DATABASES):
            raise InvalidRequest("databases", f"must be a list of 1–{MOST_DATABASES} ARNs; leave it out for all")
        databases = None if named is None else tuple(sorted({_arn("databases", one) for one in named}))
        return SecretsRequest("list", databases=databases)
    for action, more in _ABOUT_A_SECRET.items():
        if isinstance(event, Mapping) and action in event:
            _check(event, {action, *more})
            reason = _text("reason", event.get("reason"), 500)
            return SecretsRequest(
                action, secret=_secret(action, event[action]), reason=reason, plan=event.get("plan", False)
            )
    if isinstance(event, Mapping) and "withdraw" in event:
        _check(event, {"database", "withdraw"})
        if event["withdraw"] is not True:
            raise InvalidRequest("withdraw", "must be true")
        return SecretsRequest("follow", database=_arn("database", event.get("database")), withdraw=True)
    _check(event, {"database", "user", "secret", "plan", "confirm"})
    if "secret" in event and "user" not in event:
        raise InvalidRequest("secret", "goes with user")
    return SecretsRequest(
        "follow",
        secret=_secret("secret", event["secret"]) if "secret" in event else "",
        database=_arn("database", event.get("database")),
        user=_text("user", event.get("user"), 80),
        plan=event.get("plan", False),
        confirm=event.get("confirm", False),
    )


_ABOUT_A_SECRET: Mapping[Literal["show", "rotate", "unstick", "sessions"], set[str]] = {
    "show": set(),
    "rotate": {"reason"},
    "unstick": {"plan"},
    "sessions": set(),
}


def _secret(field: str, value: Any) -> str:
    if not isinstance(value, str) or _SECRET.fullmatch(value) is None:
        raise InvalidRequest(field, "must be the ARN of a secret")
    return value


def _text(field: str, value: Any, longest: int) -> str | None:
    """Check text that is written into logs: one printable line."""
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()):
        raise InvalidRequest(field, f"must be one line of 1–{longest} printable characters")
    return value


def _request(event: Any, known: set[str]) -> DatabaseRequest:
    _check(event, known)
    return DatabaseRequest(
        _arn("database", event.get("database")),
        event.get("plan", False),
        event.get("confirm", False),
        beyond_limit=event.get("beyond_limit", False),
    )


def _check(event: Any, known: set[str]) -> None:
    """Check that the event is an object of known fields, and that its flags are flags."""
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    for name in sorted(set(map(str, event)) - known):
        # Only a plain name is repeated: the caller may have put a value where a name belongs.
        raise InvalidRequest(name if re.fullmatch(r"[A-Za-z_-]{1,40}", name) else "event", "unknown field")
    for name in ("plan", "confirm", "beyond_limit"):
        if not isinstance(event.get(name, False), bool):
            raise InvalidRequest(name, "must be true or false")


def _arn(field: str, value: Any) -> str:
    if value is None:
        raise InvalidRequest(field, "is missing; it must be the ARN of a database")
    if not isinstance(value, str) or _ARN.fullmatch(value) is None:
        raise InvalidRequest(field, "must be the ARN of a database, arn:aws:rds:REGION:ACCOUNT:db:IDENTIFIER")
    return value


def rotation_request(event: Any) -> RotationRequest:
    """Read what Secrets Manager invokes RotateFunction with.

    :raises InvalidRequest: naming the field.
    """
    if not isinstance(event, Mapping):
        raise InvalidRequest("event", "must be a JSON object")
    step, secret, token = (event.get(name) for name in ("Step", "SecretId", "ClientRequestToken"))
    proof = event.get("RotationToken")
    if not isinstance(step, str) or step not in STEPS:
        raise InvalidRequest("Step", f"must be one of {', '.join(STEPS)}")
    secret = _secret("SecretId", secret)
    if not isinstance(token, str) or re.fullmatch(r"[A-Za-z0-9-]{32,64}", token) is None:
        raise InvalidRequest("ClientRequestToken", "must be the id of a version, 32 to 64 letters, digits and dashes")
    if proof is not None and (not isinstance(proof, str) or not 0 < len(proof) <= 4096):
        raise InvalidRequest("RotationToken", "must be text")
    return RotationRequest(step, secret, token, proof)
