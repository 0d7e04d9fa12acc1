"""Checks that decide whether a user's secret can be rotated. Each refusal says what its owner has to do."""

import shlex
from collections.abc import Sequence

from rdsiam.access.rotation import RotatingUser
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.aws.secrets.schedules import MANAGED
from rdsiam.core.counts import counted
from rdsiam.errors import Refused
from rdsiam.rotation import commands
from rdsiam.rotation.login import logs_in
from rdsiam.rotation.results import DesiredSchedule
from rdsiam.rotation.services import RotationServices
from rdsiam.rotation.targets import refuse_misplaced, refuse_other_login
from rdsiam.state.record import SecretRecord


def administrator_of(database: Database, user: RotatingUser) -> str | None:
    """Return the ARN of the administrator's secret for alternating users; None for a single user.

    :raises Refused: there is no administrator's secret.
    """
    if user.scheme == "single":
        return None
    administrator = user.administrator or database.master_secret_arn
    if administrator is None:
        raise Refused(
            f"scheme: alternating needs an administrator's secret, and RDS keeps none for {database.identifier}",
            # A master without a secret may be an IAM user, which a password that RDS manages would end.
            "name a secret by `administrator: ARN`, or set scheme: single",
            "secret-missing",
        )
    return administrator


def refuse_ineligible(services: RotationServices, desired: DesiredSchedule, secret: SecretFacts) -> None:
    """Refuse a secret that must not be rotated, by what is visible without a login.

    :raises Refused: naming the owner's remedy.
    """
    _refuse_unpermitted(services, desired.user.name, secret)
    _refuse_other_value(desired, secret)
    if secret.alternating and (proxies := services.targets.classic_proxies(secret.arn)):
        raise Refused(
            f"the proxy {', '.join(proxies)} logs in with {secret.name}, and knows one user only",
            "set scheme: single",
            "alternating-unsupported",
        )


def _refuse_unpermitted(services: RotationServices, user: str, secret: SecretFacts) -> None:
    arn = shlex.quote(secret.arn)
    if secret.rotation_enabled and not services.secrets.rotates(secret):
        raise Refused(
            f"{secret.rotation_lambda or 'Secrets Manager itself'} rotates {secret.name}",
            f"cancel that (aws secretsmanager cancel-rotate-secret --secret-id {arn}), or take {user} out of `rotate`",
            "secret-not-permitted",
        )
    if secret.tags.get(MANAGED) != "true":
        raise Refused(
            f"the owner of {secret.name} has not permitted rdsiam to rotate it",
            f"aws secretsmanager tag-resource --secret-id {arn} --tags Key={MANAGED},Value=true",
            "secret-not-permitted",
        )


def _refuse_other_value(desired: DesiredSchedule, secret: SecretFacts) -> None:
    if secret.administrator != desired.administrator:
        expected = f"must be {desired.administrator}" if desired.administrator else "must be missing (scheme: single)"
        raise Refused(
            f"masterarn in the value of {secret.name} is {secret.administrator or 'missing'}, and {expected}",
            "correct the value, or scheme and administrator in access.yaml",
            "secret-mismatch",
        )
    if not desired.is_of(secret):
        raise Refused(
            f"the value of {secret.name} is for {secret.username or 'no user'} at "
            f"{secret.instance or secret.host or 'no host'}, not for {desired.user.name} on "
            f"{desired.database.identifier}",
            "correct the value, or name another secret by `secret: ARN` in access.yaml",
            "secret-mismatch",
        )


def refuse_unusable(
    services: RotationServices, desired: DesiredSchedule, secret: SecretFacts, record: SecretRecord
) -> None:
    """Refuse a secret with which RotateFunction would fail: it has to name the database, and to log in.

    :raises Refused: naming the owner's remedy.
    """
    database, user = desired.database, desired.user.name
    if secret.pending_version is not None:
        raise unfinished(secret.name, database.identifier, user)
    value = services.store.current(secret.arn)
    try:
        refuse_misplaced(value, database)
        refuse_other_login(value, user, record)
    except Refused as error:
        raise Refused(f"{secret.name}: {error.problem}", error.remedy, error.code) from None
    if not logs_in(services.engines[database.family], database, value):
        raise Refused(
            f"{value.user} does not log in to {database.identifier} with {secret.name}",
            f"put the password that is in use into the secret, if the user {user} exists; rdsiam creates no user with "
            "a password",
            "login-failed",
        )


def unfinished(secret: str, database: str, user: str) -> Refused:
    """Return the refusal of a secret whose rotation has begun and not ended."""
    return Refused(
        f"a rotation of {secret} has begun and not ended",
        f"the next reconcile tries again; if it never ends: {commands.unstick(database, user)}",
        "rotation-unfinished",
    )


def ambiguous(database: str, user: str, candidates: Sequence[SecretFacts]) -> Refused:
    """Return the refusal to create a secret while the values of others are for the user."""
    arns = ", ".join(sorted(secret.arn for secret in candidates))
    return Refused(
        f"access.yaml names no secret of {user}, and these claim to hold its password, which anyone can write: {arns}",
        "ask their owner; then write `secret: ARN` in access.yaml, or run "
        f"{commands.set_up(database, user, '--secret', 'ARN', '--confirm')}",
        "secret-not-named",
    )


def without_secret(database: str, user: str, searched: bool, skipped: int) -> Refused:
    """Return the refusal to create a secret without a confirmation.

    :param searched: all secrets were read for candidates.
    :param skipped: number of secrets that could not be read.
    """
    unreadable = f" ({counted(skipped, 'secret')} could not be read)" if skipped else ""
    problem = (
        f"no secret claims to hold its password{unreadable}"
        if searched
        else "access.yaml names no secret of it, and none is recorded"
    )
    return Refused(
        problem,
        "if one holds the password that is in use, name it: `secret: ARN`. To create one, rdsiam changes the password, "
        f"and clients with the old one are locked out: {commands.set_up(database, user, '--confirm')}; --plan shows "
        "the changes",
        "secret-not-named",
    )
