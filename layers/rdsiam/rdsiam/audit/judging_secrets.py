"""What is wrong with the secrets of a database's users: whose they are, and how their rotations do."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from rdsiam.access import AccessFile
from rdsiam.audit.facts import SecretFacts
from rdsiam.audit.findings import Finding, Severity
from rdsiam.audit.kind import Case
from rdsiam.audit.kinds import KINDS
from rdsiam.databases import Database, Proxy
from rdsiam.engines.rotating import base_name
from rdsiam.errors import AccessFileInvalid
from rdsiam.rotation import schedule
from rdsiam.selection import SelectedDatabase

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
        elif secret.rotation_enabled and secret.next_rotation and _time(secret.next_rotation) + _GRACE < at:
            evidence = about | {"last_rotated": secret.last_rotated, "next_rotation": secret.next_rotation}
            yield KINDS["rotation-overdue"].finding(Case(database, secret.username, subject, evidence))


def not_rotating(database: SelectedDatabase, secrets: Sequence[SecretFacts], access: AccessFile) -> Iterator[Finding]:
    """Judge whether all is rotated that access.yaml says; nothing where the file is invalid for the database.

    :param secrets: those that log in to it.
    """
    try:
        rotating = access.rotating(database)
        rules = schedule.rules(database.resource_id, [(one.name, one.every, one.window) for one in rotating])
    except AccessFileInvalid:
        return
    for user in rotating:
        own = [one for one in secrets if one.username is not None and base_name(one.username) == base_name(user.name)]
        if any(_rotates(one, rules[user.name]) for one in own):
            continue
        evidence = {"secret": own[0].arn if own else None, "every": user.every}
        yield KINDS["rotation-not-set"].finding(Case(database, user.name, (database.resource_id, user.name), evidence))


def _rotates(secret: SecretFacts, rules: schedule.Rules) -> bool:
    """Tell whether a secret has just this schedule; AWS adds to what was set how many days that comes to."""
    return secret.rotation_enabled and all(secret.rotation_rules.get(name) == value for name, value in rules.items())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
