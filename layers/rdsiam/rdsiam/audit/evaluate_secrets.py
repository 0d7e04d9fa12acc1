"""Evaluates the secrets of a database's users: whether they are needed, and whether they rotate; no I/O."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from rdsiam.access import calendar
from rdsiam.access.model import AccessFile
from rdsiam.access.selection import SelectedDatabase
from rdsiam.aws.rds import Database, Proxy
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.core import times
from rdsiam.engines.rotation import base_name
from rdsiam.errors import AccessFileInvalid
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, Severity
from rdsiam.findings.kind import Case
from rdsiam.state.record import SecretRecord

#: Delay of a rotation that is no finding yet: schedules have windows of up to a day.
_GRACE = timedelta(days=1)


def evaluate_secrets(
    database: Database,
    secrets: Iterable[SecretFacts],
    iam_users: Collection[str],
    proxies: Sequence[Proxy],
    at: datetime,
) -> Iterator[Finding]:
    """Yield at most one finding for each secret that logs in to a database.

    :param iam_users: users who log in by token and by nothing else.
    """
    of_proxies = {arn for proxy in proxies if proxy.classic for arn in proxy.secret_arns}
    for secret in secrets:
        if secret.username not in iam_users:
            yield from _rotation(database, secret, at)
        elif secret.arn not in of_proxies:  # otherwise the finding is that the proxy can't log in
            severity: Severity | None = "medium" if secret.rotation_enabled else None
            evidence = {"rotation_enabled": secret.rotation_enabled}
            yield _finding("secret-of-iam-user", database, secret, evidence, severity)


def changed_secrets(
    database: Database, secrets: Mapping[str, SecretFacts], recorded: Mapping[str, SecretRecord]
) -> Iterator[Finding]:
    """Yield recorded secrets whose value is no longer for the recorded database, user and administrator.

    :param secrets: all secrets of the account, by ARN.
    :param recorded: user → the record of its secret on this database.
    """
    for user, record in sorted(recorded.items()):
        secret = secrets.get(record.arn or "")
        if secret is None or record.state == "ended" or _is_as_recorded(database, secret, user, record):
            continue
        evidence = {
            "secret": secret.arn,
            "username": secret.username,
            "place": secret.instance or secret.host,
            "administrator": secret.administrator,
            "recorded_administrator": record.administrator,
            "current_version": secret.current_version,
            "previous_version": secret.previous_version,
        }
        subject = (database.resource_id, user, secret.arn)
        yield KINDS["secret-not-as-recorded"].finding(Case(database, user, subject, evidence))


def unset_rotations(
    database: SelectedDatabase,
    secrets: Mapping[str, SecretFacts],
    recorded: Mapping[str, SecretRecord],
    access: AccessFile,
) -> Iterator[Finding]:
    """Yield rotations that access.yaml declares and that are not set; none if the file is invalid for the database.

    :param secrets: all secrets of the account, by ARN.
    :param recorded: user → the record of its secret on this database.
    """
    try:
        rotating = access.rotating(database)
        rules = calendar.rules(database.resource_id, [(user.name, user.every, user.window) for user in rotating])
    except AccessFileInvalid:
        return
    for user in rotating:
        record = recorded.get(user.name)
        secret = secrets.get(record.arn or "") if record is not None and record.state == "ready" else None
        if secret is not None and _has_schedule(secret, rules[user.name]):
            continue
        evidence = {"secret": secret.arn if secret else None, "every": user.every}
        yield KINDS["rotation-not-set"].finding(Case(database, user.name, (database.resource_id, user.name), evidence))


def _rotation(database: Database, secret: SecretFacts, at: datetime) -> Iterator[Finding]:
    """Yield the most serious problem of a rotation."""
    last = {"last_rotated": secret.last_rotated}
    pending = {"pending_version": secret.pending_version}
    if secret.pending_stuck:
        evidence = {**pending, "current_version": secret.current_version, **last}
        yield _finding("rotation-stuck", database, secret, evidence)
    elif secret.pending_failing:
        yield _finding("rotation-failing", database, secret, {**pending, **last})
    elif _is_overdue(secret, at):
        yield _finding("rotation-overdue", database, secret, {**last, "next_rotation": secret.next_rotation})


def _is_overdue(secret: SecretFacts, at: datetime) -> bool:
    if not secret.rotation_enabled or not secret.next_rotation:
        return False
    return times.moment(secret.next_rotation) + _GRACE < at


def _finding(
    kind: str,
    database: Database,
    secret: SecretFacts,
    evidence: Mapping[str, object],
    severity: Severity | None = None,
) -> Finding:
    shared = {"secret": secret.arn, "rotation_lambda": secret.rotation_lambda}
    subject = (database.resource_id, secret.arn)
    return KINDS[kind].finding(Case(database, secret.username, subject, {**shared, **evidence}, severity=severity))


def _is_as_recorded(database: Database, secret: SecretFacts, user: str, record: SecretRecord) -> bool:
    name = secret.username
    if name is not None and record.scheme == "alternating":
        name = base_name(name)
    same_database = secret.is_of(database.arn, database.identifier, database.host, database.port)
    return same_database and (name, secret.administrator) == (user, record.administrator)


def _has_schedule(secret: SecretFacts, rules: calendar.Rules) -> bool:
    """Tell whether a secret has this schedule; AWS adds the number of days to the rules that were set."""
    return secret.rotation_enabled and all(secret.rotation_rules.get(name) == value for name, value in rules.items())
