"""Ways to remedy a login that must not stay as it is. Ways that interrupt no client come first, locking comes last."""

from collections.abc import Sequence

from rdsiam.access import fields
from rdsiam.access.successors import successor_item, successor_name
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.schedules import MANAGED
from rdsiam.core.counts import counted
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings.commands import aws, rdsiam
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import Case
from rdsiam.findings.remediation import entry, onboard, sql, suppression

BREAKS_CLIENTS = "Move all clients to tokens first: afterwards, logins by password are refused."
_PROVE_ADMINISTRATOR = (
    "On PostgreSQL, keep this session open while you test a second login of the administrator, and revert the change "
    "if it fails: members of the user may lose their passwords with it. From PostgreSQL 16 on, the role that created "
    "the user is a member."
)
_LOCKED = "Afterwards nobody can log in as this user. It keeps its objects, its privileges and its password."
_JOBS = {
    "postgres": " Jobs of pg_cron and subscriptions that run as the user stop.",
    "mysql": "",
}


def usage(accounts: Sequence[AccountFacts]) -> str:
    """Return the evidence for or against the use of accounts, as a sentence."""
    names = " and ".join(account.label for account in accounts[:3]) + (" and more" if len(accounts) > 3 else "")
    sessions = [account.sessions for account in accounts]
    if is_in_use(accounts):
        number = sum(each or 0 for each in sessions)
        return f"In use: the audit saw {counted(number, 'open session')} of {names}."
    if any(each is None for each in sessions):
        return f"The audit could not see whether {names} has open sessions."
    return f"The audit saw no open session of {names}. It looks once: logins between two audits are not seen."


def is_in_use(accounts: Sequence[AccountFacts]) -> bool:
    """Tell whether the audit saw a session of one of the accounts."""
    return any(account.sessions for account in accounts)


def retire_or_declare(case: Case, way: int = 1) -> list[Remediation]:
    """Return the remediation of an undeclared login.

    A user with a password migrates, or its password rotates; a user that takes tokens is declared. Either is locked if
    it is unused.
    """
    if all(account.iam for account in case.accounts):
        steps = _declare(case, way)
    else:
        steps = _migrate(case, way)
        steps += _rotate(case, _next(steps, way))
    return [*steps, *_lock(case, _next(steps, way), alone=not steps)]


def convert_declared(case: Case) -> list[Remediation]:
    """Return the remediation of a declared user that has a password: onboarding does it if it may change the user.

    Otherwise a successor moves the clients one by one; or the user itself is converted, with all clients at once.
    """
    used = usage([account for account in case.accounts if not account.iam] or case.accounts)
    first = [onboard(case.on, note=f"{used} {BREAKS_CLIENTS}")] if case.managed else _migrate(case, 1)
    note = f"{used} {BREAKS_CLIENTS} {_PROVE_ADMINISTRATOR}"
    converted = [account for account in case.accounts if not account.iam or account.second_password] or case.accounts
    steps = sql(
        case.on,
        lambda engine: [text for account in converted for text in engine.convert(account)],
        _next(first, 1),
        note,
    )
    return [*first, *steps]


def lock_unused(case: Case, way: int) -> list[Remediation]:
    """Return the statements that lock the accounts, with the evidence that somebody uses them or not."""
    note = f"Only if nobody needs it. {usage(case.accounts)} {_LOCKED}{_JOBS[case.on.family]}"
    return sql(case.on, lambda engine: [text for account in case.accounts for text in engine.lock(account)], way, note)


def adopt(database: Database, user: str, level: str, on: Sequence[str], way: int, note: str) -> list[Remediation]:
    """Return an item of `databases` in access.yaml that adopts a user; none if its name can't be declared."""
    values = {"name": user, "privileges": level, "on": list(on), "adopt": True}
    if list(fields.problems_on(database, user, level, on, [])):
        return []
    return entry(database, {"users": [values]}, way, note)


def _lock(case: Case, way: int, *, alone: bool) -> list[Remediation]:
    """Return the statements that lock the accounts; none if they are in use and another way exists."""
    return [] if is_in_use(case.accounts) and not alone else lock_unused(case, way)


def _next(steps: Sequence[Remediation], way: int) -> int:
    """Return the number of the way after the given steps, which begin with `way`."""
    return max((step.way for step in steps), default=way - 1) + 1


def _migrate(case: Case, way: int) -> list[Remediation]:
    """Return the steps that give a user with a password a successor; none if the user has to keep its password."""
    database, user = case.on, case.accounts[0].name
    if case.keeps_password:
        return []
    declared: list[Remediation] = []
    if case.successor is None:
        successor = successor_name(database, user)
        if list(fields.problems_on(database, successor, None, None, [], replaces=user)):
            return []
        place = f" in place of the declaration of {user}" if case.declared is not None else ""
        note = f"Put this into access.yaml{place}, with the application's role in `roles`, and publish the file."
        declared = entry(database, successor_item(user, successor), way, note)
        if not declared:
            return []
    note = (
        f"No login fails: a successor takes tokens, with the rights of {user}. {user} is locked after 7 days in which "
        "nobody used its password. `rdsiam migrate undo` takes it back."
    )
    return [*declared, rdsiam("migrate start", database, user=user, way=way, note=note)]


def _rotate(case: Case, way: int) -> list[Remediation]:
    """Return the steps after which the password of a user that has to keep it changes every month.

    None if the user is declared, or if it takes tokens from some hosts, or if several secrets hold its password.
    """
    database, user = case.on, case.accounts[0].name
    unfit = case.declared is not None or user == database.master_user or len(case.secrets) > 1
    if unfit or any(account.iam for account in case.accounts):
        return []
    labels = [account.label for account in case.accounts]
    accepted = suppression(case, "user-without-iam", "the password rotates", *labels)
    secret = case.secrets[0] if case.secrets else None
    reason = f"For a user that can't take tokens{f': {case.keeps_password}' if case.keeps_password else ''}."
    if case.rotates or (secret is not None and secret.rotation_enabled):
        return entry(database, accepted, way, f"{reason} Its password rotates already: this accepts the finding.")
    rotate = {"users": [user], "every": "30d", **({"secret": secret.arn} if secret else {})}
    note = f"{reason} Put this into access.yaml, and publish the file."
    declared = entry(database, {"rotate": rotate, **accepted}, way, note)
    if not declared:
        return []
    return [*_permit(database, secret, way), *_administer(case, way), *declared, _set_up(case, secret, way)]


def _administer(case: Case, way: int) -> list[Remediation]:
    """Return the statement that lets rdsiam_manager set the first password of a new secret; none if it may."""
    if case.secrets or not case.unadministered:
        return []
    user, manager = case.accounts[0].name, AccountFacts(name=MANAGER)
    note = "From PostgreSQL 16 on, only an administrator of a role changes its password."
    return sql(case.on, lambda engine: engine.administer(user, manager), way, note)


def _permit(database: Database, secret: SecretFacts | None, way: int) -> list[Remediation]:
    """Return the command that permits the rotation of a secret; none if it is permitted already."""
    if secret is None or secret.tags.get(MANAGED) == "true":
        return []
    words = ("secretsmanager", "tag-resource", "--secret-id", secret.arn, "--tags", f"Key={MANAGED},Value=true")
    return [aws(database, *words, way=way, note="As the owner of the secret.")]


def _set_up(case: Case, secret: SecretFacts | None, way: int) -> Remediation:
    user = case.accounts[0].name
    if secret is not None:
        note = "This sets the schedule. The password stays until then."
        return rdsiam("rotate set-up", case.on, user=user, way=way, note=note)
    note = (
        f"{usage(case.accounts)} No secret holds its password, so this makes a secret with a new password, and all "
        "clients that know the former one fail until they read the secret: choose a quiet hour."
    )
    return rdsiam("rotate set-up", case.on, "--confirm", user=user, way=way, note=note)


def _declare(case: Case, way: int) -> list[Remediation]:
    """Return the steps that declare a user that takes tokens, with the privileges that it has."""
    database = case.on
    level, on = REMEDIATIONS[database.family].held(case.accounts, case.schemas)
    usual = database.default_database if database.default_database in case.schemas else next(iter(case.schemas), "*")
    note = (
        "Correct the privileges, and add `roles` or `callers`: without them nobody can log in as this user. Afterwards "
        "it logs in by token only."
    )
    declared = adopt(database, case.accounts[0].name, level, on or [usual or "*"], way, note)
    return [*declared, onboard(database, way)] if declared else []
