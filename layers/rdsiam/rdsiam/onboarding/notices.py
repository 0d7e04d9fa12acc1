"""Notices: events of RDS that no onboarding resolves. They are published at once, and the audit reports them."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from aws_durable_execution_sdk_python import DurableContext

from rdsiam.core import times
from rdsiam.core.durable import Steps
from rdsiam.errors import DatabaseNotFound, Unsupported
from rdsiam.onboarding.answer import Answer
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.onboarding.publication import Publication


@dataclass(frozen=True)
class _Recorded:
    """The database that a notice is about.

    :ivar database: ARN; empty if there is none, or rdsiam leaves it alone.
    :ivar recorded: the inventory has a record of the database, which now has the notice.
    """

    database: str = ""
    recorded: bool = False
    reason: str = ""
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Return the result from which `to_json` made this JSON."""
        return cls(**data)


def notice(context: DurableContext, services: OnboardingServices, arn: str, event: str) -> Answer:
    """Record and publish an event of RDS about a database; for a cluster's writer about the cluster.

    :param event: its number, `RDS-EVENT-…`.
    """
    steps = Steps(context, services.results)
    result = steps.run_typed("record the notice", _Recorded, lambda: _record(services, arn, event))
    if not result.database:
        return Answer(arn, "ignored", result.reason, result.code)
    steps.run("publish the notice", lambda: Publication(services, result.database).notice(event))
    return Answer(result.database, "unchanged", f"{event} was published" + (", recorded" if result.recorded else ""))


def _record(services: OnboardingServices, arn: str, event: str) -> _Recorded:
    try:
        database = services.databases.describe(arn)
    except (DatabaseNotFound, Unsupported) as error:
        return _Recorded(reason=str(error), code=error.code)
    record = services.inventory.of(database)
    if record is None or not record.is_of(database):
        return _Recorded(database.arn)  # the next reconcile records it; the audit reports later events
    services.inventory.set_notice(record.arn, event, times.now_text())
    return _Recorded(database.arn, recorded=True)
