"""What is wrong with the secrets of a database's users: whose they are, and how their rotations do."""

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
from rdsiam.state.inventory import SecretRecord

#: So late a rotation may be: schedules have windows of up to a day.
_GRACE = timedelta(days=1)


def of_secrets(
    database: Database,
    secrets: Iterable[SecretFacts],
    iam_users: Collection[str],
    proxies: Sequence[Proxy],
    at: datetime,
) -> Iterator[Finding]:
    """Judge the secrets that log in to a database.

    :param iam_users: users who take tokens and nothing else.
    """
    of_proxies = {arn for proxy in proxies if proxy.classic for arn in proxy.secret_arns}
    for secret in secrets:
        subject = (database.resource_id, secret.arn)
        about: dict[str, object] = {"secret": secret.arn, "rotation_lambda": secret.rotation_lambda}
        if secret.username in iam_users:
            if secret.arn not in of_proxies:  # else the finding is that the proxy can't log in
                evidence = about | {"rotation_enabled": secret.rotation_enabled}
                severity: Severity | None = "medium" if secret.rotation_enabled else None
                case = Case(database, secret.username, subject, evidence, severity=severity)
                yield KINDS["secret-of-iam-user"].finding(case)
        elif secret.pending_stuck:
            evidence = about | {
                "pending_version": secret.pending_version,
                "current_version": secret.current_version,
                "last_rotated": secret.last_rotated,
            }
            yield KINDS["rotation-stuck"].finding(Case(database, secret.username, subject, evidence))
        elif secret.pending_failing:
            evidence = about | {"pending_version": secret.pending_version, "last_rotated": secret.last_rotated}
            yield KINDS["rotation-failing"].finding(Case(database, secret.username, subject, evidence))
        elif secret.rotation_enabled and secret.next_rotation and times.moment(secret.next_rotation) + _GRACE < at:
            evidence = about | {"last_rotated": secret.last_rotated, "next_rotation": secret.next_rotation}
            yield KINDS["rotation-overdue"].finding(Case(database, secret.username, subject, evidence))


def not_as_recorded(
    database: Database, secrets: Iterable[SecretFacts], recorded: Mapping[str, SecretRecord]
) -> Iterator[Finding]:
    """Find recorded secrets whose value is for another database, user or administrator than was recorded.

    :param secrets: all of the account.
    :param recorded: user → the record of its secret on this database.
    """
    by_arn = {secret.arn: secret for secret in secrets}
    for user, record in sorted(recorded.items()):
        secret = by_arn.get(record.arn or "")
        if secret is None or record.state == "ended":
            continue
        name = secret.username
        if name is not None and record.scheme == "alternating":
            name = base_name(name)
        here = secret.is_of(database.arn, database.identifier, database.host, database.port)
        if here and (name, secret.administrator) == (user, record.administrator):
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


def not_rotating(
    database: SelectedDatabase,
    secrets: Iterable[SecretFacts],
    recorded: Mapping[str, SecretRecord],
    access: AccessFile,
) -> Iterator[Finding]:
    """Find rotations that access.yaml declares and that are not set; none if the file is invalid for the database.

    :param secrets: all of the account.
    :param recorded: user → the record of its secret on this database.
    """
    try:
        rotating = access.rotating(database)
        rules = calendar.rules(database.resource_id, [(one.name, one.every, one.window) for one in rotating])
    except AccessFileInvalid:
        return
    by_arn = {secret.arn: secret for secret in secrets}
    for user in rotating:
        record = recorded.get(user.name)
        secret = by_arn.get(record.arn or "") if record is not None and record.state == "ready" else None
        if secret is not None and _rotates(secret, rules[user.name]):
            continue
        evidence = {"secret": secret.arn if secret else None, "every": user.every}
        yield KINDS["rotation-not-set"].finding(Case(database, user.name, (database.resource_id, user.name), evidence))


def _rotates(secret: SecretFacts, rules: calendar.Rules) -> bool:
    """Tell whether a secret has just this schedule; AWS adds to what was set how many days that comes to."""
    return secret.rotation_enabled and all(secret.rotation_rules.get(name) == value for name, value in rules.items())
