"""Onboardings that an audit starts, of databases with a new drift; see docs/decisions/0054-drift.md."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rdsiam.audit.drift import MISSING_GRANT, NO_DRIFT
from rdsiam.audit.parts import DatabasePart
from rdsiam.aws.rds import Database
from rdsiam.findings.finding import Finding
from rdsiam.report.document import OnboardingLine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Onboardings:
    """Starts onboardings for one audit. An onboarding that is started twice, by a repeated step, is one execution.

    Only the daily audit does so for any drift. An audit that an operator starts leaves users as it finds them, for the
    operator to decide, and sees to databases and schemas that `"*"` does not cover yet.

    :ivar functions: client of Lambda.
    :ivar onboard_function: OnboardFunction with the alias of the audit.
    """

    functions: Any
    onboard_function: str
    audit: str
    daily: bool

    def start(
        self, parts: Iterable[tuple[Database, DatabasePart | None]], policies: Iterable[Finding]
    ) -> Iterator[OnboardingLine]:
        """Start the onboarding of databases with a new drift, and yield each with its differences.

        :param parts: databases with their results.
        :param policies: findings in the account's policies.
        """
        lost: dict[str | None, list[Finding]] = {}
        for finding in policies:
            if finding.kind == MISSING_GRANT and finding.suppressed is None:
                lost.setdefault(finding.database, []).append(finding)
        for database, part in parts:
            drift = (part.drift if part else NO_DRIFT).with_policies(lost.get(database.arn, ()))
            if drift.is_new and (self.daily or "databases" in drift.differences):
                self._start(database, drift.digest)
                differences = sorted(drift.differences)
                extra = {"database": database.arn}
                logger.info("onboarding of %s started: %s differ", database.arn, ", ".join(differences), extra=extra)
                yield {"database": database.arn, "differences": differences}

    def _start(self, database: Database, drift: str) -> None:
        self.functions.invoke(
            FunctionName=self.onboard_function,
            InvocationType="Event",
            # 64 characters at most; a cluster's resource id has 34, the audit's without its letters 23.
            DurableExecutionName=f"{database.resource_id[:38]}-{self.audit.replace('T', '').replace('Z', '')}",
            Payload=json.dumps({"database": database.arn, "drift": drift}).encode(),
        )
