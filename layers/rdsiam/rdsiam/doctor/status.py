"""The first check: whether the database runs. While it doesn't, nothing else is to blame."""

from collections.abc import Callable

from rdsiam.aws.rds_models import Database, in_transition
from rdsiam.doctor.case import LoginCase, Undescribed, Verdict, fail, ok, unknown

_ERRORS = ("cloning-failed", "failed", "migration-failed", "restore-error", "incompatible-restore")


def database(case: LoginCase) -> Verdict:
    """Check that RDS reports the database as running."""
    return case.target.verdict if isinstance(case.target, Undescribed) else of(case.target)


def of(described: Database) -> Verdict:
    """Return the verdict on the status of a database."""
    subject = f"{described.identifier} is {described.status}"
    if not described.reachable:
        if described.status == "available" and described.host is None:
            return fail(
                f"{described.identifier} has no endpoint{_without_instance(described)}", _add_instance(described)
            )
        return fail(subject, _remedy(described))
    if in_transition(described.status):
        return unknown(f"{subject}, and may refuse connections until that ends", wait(described))
    return ok(f"{subject}: {described.engine} {described.engine_version}".rstrip())


def wait(described: Database) -> str:
    """Return the command that waits until a database is available."""
    if described.kind == "proxy":
        return f"wait until it is available: aws rds describe-db-proxies --db-proxy-name {described.identifier}"
    # A member is waited for itself: its cluster may be available before.
    noun = "cluster" if described.kind == "cluster" else "instance"
    return f"aws rds wait db-{noun}-available --db-{noun}-identifier {described.identifier}"


def _remedy(described: Database) -> str:
    """Return what to do about a status in which nothing can connect."""
    for statuses, remedy in _REMEDIES:
        if described.status.startswith(statuses):
            return remedy(described)
    return _events(described)


def _owned(described: Database) -> tuple[str, str]:
    """Return noun and identifier of what is started and restored: of a cluster's member, its cluster."""
    return ("cluster", described.cluster) if described.cluster else ("instance", described.identifier)


def _start(described: Database) -> str:
    noun, name = _owned(described)
    return f"aws rds start-db-{noun} --db-{noun}-identifier {name}"


def _start_later(described: Database) -> str:
    return f"wait until it is stopped, then {_start(described)}"


def _restore(described: Database) -> str:
    noun, name = _owned(described)
    restore = f"aws rds restore-db-{noun}-to-point-in-time --source-db-{noun}-identifier {name} …"
    return f"{_events(described)}; then restore it: {restore}"


def _events(described: Database) -> str:
    source = {"cluster": "db-cluster", "proxy": "db-proxy"}.get(described.kind, "db-instance")
    return f"see why: aws rds describe-events --source-type {source} --source-identifier {described.identifier}"


def _unlock(described: Database) -> str:
    if described.status.endswith("-recoverable"):
        return f"enable its KMS key, then {_start(described)}"
    return f"enable its KMS key; without it only a backup can be restored; {_events(described)}"


def _enlarge(described: Database) -> str:
    return (
        f"aws rds modify-db-instance --db-instance-identifier {described.identifier} --allocated-storage … "
        "--apply-immediately"
    )


def _gone(_: Database) -> str:
    return "name another database; RDS keeps a final snapshot if one was requested"


_REMEDIES: tuple[tuple[str | tuple[str, ...], Callable[[Database], str]], ...] = (
    ("stopped", _start),
    ("stopping", _start_later),
    (("starting", "creating"), wait),
    (("deleting", "delete-precheck"), _gone),
    (_ERRORS, _restore),
    ("inaccessible-", _unlock),
    ("storage-full", _enlarge),
    (("suspended", "suspending"), wait),
)


def _without_instance(described: Database) -> str:
    return ": the cluster has no instance" if described.kind == "cluster" else ""


def _add_instance(described: Database) -> str:
    if described.kind != "cluster":
        return wait(described)
    return f"aws rds create-db-instance --db-cluster-identifier {described.identifier} --engine {described.engine} …"
