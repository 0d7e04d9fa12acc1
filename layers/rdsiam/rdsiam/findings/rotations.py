"""Kinds of findings about rotated passwords and the secrets that hold them."""

from dataclasses import replace

from rdsiam.engines.registry import REMEDIATIONS
from rdsiam.findings import runners
from rdsiam.findings.commands import aws, rdsiam, step
from rdsiam.findings.finding import Remediation
from rdsiam.findings.kind import FIXED, Case, Kind
from rdsiam.findings.references import SECRETS_MANAGER

_SECRET = {"secret": "ARN of the secret", "rotation_lambda": "ARN of the function that rotates it"}


def _delete_secret(case: Case) -> list[Remediation]:
    arn = case.evidence["secret"]
    look = ("secretsmanager", "describe-secret", "--secret-id", arn, "--query", "LastAccessedDate", "--output", "text")
    delete = ("secretsmanager", "delete-secret", "--secret-id", arn, "--recovery-window-in-days", "30")
    return [
        aws(case.database, *look, note="The day on which the secret was read last; `None` if it never was."),
        aws(case.database, *delete, note="Only if nothing reads the secret. It can be restored for 30 days."),
    ]


def _unstick(case: Case) -> list[Remediation]:
    """Let rdsiam try which password logs in, if it rotates the secret; else people try."""
    arn, pending, current = (case.evidence[name] for name in ("secret", "pending_version", "current_version"))
    rotated = case.evidence["rotation_lambda"] is not None
    rotate = [aws(case.database, "secretsmanager", "rotate-secret", "--secret-id", arn)] if rotated else []
    if pending is None:
        return rotate
    label = ("secretsmanager", "update-secret-version-stage", "--secret-id", arn, "--version-stage")
    first = (
        "Only if the database accepts the current password: try it by logging in. `rdsiam rotate unstick` does both."
    )
    other = "If the database accepts the pending password only: the pending version becomes current."
    result = [aws(case.database, *label, "AWSPENDING", "--remove-from-version-id", pending, note=first), *rotate]
    if current is not None:
        move = (*label, "AWSCURRENT", "--move-to-version-id", pending, "--remove-from-version-id", current)
        result.append(aws(case.database, *move, way=2, note=other))
    return result


def _rotate(case: Case, action: str, note: str) -> Remediation:
    return rdsiam(f"rotate {action}", case.on, user=case.user or "", note=note)


def _status(case: Case) -> Remediation:
    note = "This shows the pending version and since when it is pending. The log of RotateFunction has the cause."
    return _rotate(case, "status", note)


def _now(case: Case) -> Remediation:
    return _rotate(case, "now", "After the cause is resolved: this continues with the pending version.")


def _set_up(case: Case) -> Remediation:
    return _rotate(case, "set-up", "This names what prevents the rotation. Onboarding does the same at each reconcile.")


def _put_back(case: Case) -> list[Remediation]:
    arn, current, previous = (case.evidence[name] for name in ("secret", "current_version", "previous_version"))
    note = "This names the difference. If the change is intended, declare secret and administrator in access.yaml."
    intended = _rotate(case, "set-up", note)
    if current is None or previous is None:
        return [intended]
    label = ("secretsmanager", "update-secret-version-stage", "--secret-id", arn, "--version-stage", "AWSCURRENT")
    move = (*label, "--move-to-version-id", previous, "--remove-from-version-id", current)
    back = "If the previous value was right. Find out first who changed it: CloudTrail, PutSecretValue."
    return [aws(case.database, *move, note=back), replace(intended, way=2)]


def _reassign(case: Case) -> list[Remediation]:
    successor = case.evidence["successor"]
    note = "In each database in which the clone owns objects."
    engine = REMEDIATIONS[case.on.family]
    return [
        step(
            "sql",
            engine.give_objects(case.accounts[0], successor),
            runners.master(case.on, name),
            database=name,
            note=note if not number else "",
        )
        for number, name in enumerate(case.schemas)
    ]


ROTATION_KINDS = (
    Kind(
        id="secret-of-iam-user",
        title="A secret holds a password of {user}, who accepts tokens only",
        severity="low",
        severity_rule="Medium if the secret rotates: on MySQL the rotation makes the user accept a password again.",
        risk="Applications that read the secret can't log in; a rotation converts the user back unnoticed.",
        why="The user was converted and its secret was kept.",
        evidence=_SECRET | {"rotation_enabled": "the secret rotates"},
        remedy=_delete_secret,
        references=(SECRETS_MANAGER + "manage_delete-secret.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-stuck",
        title="The rotation of {user}'s password is stuck",
        severity="medium",
        severity_rule=FIXED,
        risk="The password never changes again: further rotations fail with `A previous rotation isn't complete`.",
        why="A step failed, in most cases because of the network, and left a version labelled AWSPENDING.",
        evidence=_SECRET
        | {
            "pending_version": "the version that blocks further rotations",
            "current_version": "the version that is in use",
            "last_rotated": "time of the last rotation",
        },
        remedy=_unstick,
        references=(SECRETS_MANAGER + "troubleshoot_rotation.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-failing",
        title="The rotation of {user}'s password fails",
        severity="medium",
        severity_rule=FIXED,
        risk="Secrets Manager tries again for some hours; then the rotation is stuck, and the password never changes.",
        why="A step failed, in most cases because of the network: a rotation takes seconds, and this one has not "
        "ended.",
        evidence=_SECRET
        | {"pending_version": "the version that becomes current next", "last_rotated": "time of the last rotation"},
        remedy=lambda case: [_status(case), _now(case)],
        references=(SECRETS_MANAGER + "troubleshoot_rotation.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-not-set",
        title="The rotation of {user}'s password is declared, and is not set",
        severity="medium",
        severity_rule=FIXED,
        risk="A password that should be valid for days stays valid, contrary to access.yaml.",
        why="The user or its secret is missing, access.yaml names no secret of the user, the secret's owner has not "
        "tagged it, another function rotates it, or its schedule was changed by hand. Onboarding names the cause.",
        evidence={"secret": "ARN of the recorded secret; null if there is none", "every": "the declared interval"},
        remedy=lambda case: [_set_up(case)],
        references=(SECRETS_MANAGER + "rotating-secrets.html",),
        source="secrets",
    ),
    Kind(
        id="secret-not-as-recorded",
        title="The secret of {user} holds another login than the recorded one",
        severity="high",
        severity_rule=FIXED,
        risk="Somebody who may write the secret may try to make rdsiam set the password of another user. "
        "RotateFunction refuses that, so the user's own password no longer rotates, and applications that read the "
        "secret can't log in.",
        why="The secret was chosen for this user in access.yaml or by an operator, and its value now names another "
        "user, database or administrator.",
        evidence={
            "secret": "ARN of the secret",
            "username": "the user that its value names",
            "place": "the database or host that its value names",
            "administrator": "the administrator's secret that its value names (`masterarn`)",
            "recorded_administrator": "the administrator's secret that is recorded",
            "current_version": "the version that is in use",
            "previous_version": "the version before; null if there is none",
        },
        remedy=_put_back,
        references=(SECRETS_MANAGER + "rotating-secrets.html",),
        source="secrets",
    ),
    Kind(
        id="rotation-overdue",
        title="The rotation of {user}'s password is overdue",
        severity="medium",
        severity_rule=FIXED,
        risk="A password that should be valid for days stays valid; rotation may have failed unnoticed for a year.",
        why="The rotation was due more than a day ago, and did not happen.",
        evidence=_SECRET | {"last_rotated": "time of the last rotation", "next_rotation": "when the rotation was due"},
        remedy=lambda case: [
            aws(case.database, "secretsmanager", "rotate-secret", "--secret-id", case.evidence["secret"])
        ],
        references=(SECRETS_MANAGER + "rotating-secrets.html", SECRETS_MANAGER + "troubleshoot_rotation.html"),
        source="secrets",
    ),
    Kind(
        id="objects-owned-by-clone",
        title="{user}, a clone for rotation, owns objects",
        severity="low",
        severity_rule=FIXED,
        risk="After every other rotation the application can't change, or even see, objects that it created itself.",
        why="Rotation with alternating users logs the application in as `<user>` and `<user>_clone` in turn; objects "
        "belong to the user that it logged in as when it created them.",
        evidence={"owns": "number of objects that the clone owns", "successor": "the user that it is a clone of"},
        remedy=_reassign,
        references=(SECRETS_MANAGER + "rotation-strategy.html",),
        source="session",
    ),
)
