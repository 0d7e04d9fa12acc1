"""Events that onboarding publishes on the default event bus, with the source `rdsiam`."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from rdsiam.core.changes import Unconfirmed
from rdsiam.errors import RdsiamError
from rdsiam.onboarding.dependencies import OnboardingServices
from rdsiam.state import fingerprint

logger = logging.getLogger(__name__)


class NotPublished(RdsiamError):
    """EventBridge did not accept an event."""

    code = "not-published"


class Publication:
    """Events about one database."""

    def __init__(self, services: OnboardingServices, arn: str) -> None:
        self._services = services
        self._arn = arn

    def onboarded(self) -> None:
        """Publish `rdsiam.database.onboarded`. Consumers may receive it twice; they look at the database."""
        self._publish("rdsiam.database.onboarded", {"database": self._arn})
        logger.info("onboarded %s", self._arn)

    def pending(self, waiting: Unconfirmed | None) -> None:
        """Publish `rdsiam.database.gains-pending`, once for what waits; record that nothing waits any longer.

        :param waiting: the access that waits for confirmation; None if none does.
        """
        record = self._services.inventory.get(self._arn)
        current = fingerprint.of_text(waiting.reason) if waiting else ""
        if record is not None and record.pending == current:
            return
        if waiting:
            self._publish("rdsiam.database.gains-pending", {"database": self._arn, "reason": waiting.reason})
            logger.warning("%s: %s", self._arn, waiting.reason)
        self._services.inventory.set_pending(self._arn, current)

    def notice(self, event: str) -> None:
        """Publish `rdsiam.database.notice`: RDS reported something that no onboarding resolves."""
        self._publish("rdsiam.database.notice", {"database": self._arn, "event": event})
        logger.warning("%s: RDS reported %s", self._arn, event)

    def _publish(self, kind: str, detail: Mapping[str, Any]) -> None:
        answer = self._services.events.put_events(
            Entries=[
                {"Source": "rdsiam", "DetailType": kind, "Resources": [self._arn], "Detail": json.dumps(dict(detail))}
            ]
        )
        if answer["FailedEntryCount"]:
            raise NotPublished(f"EventBridge did not accept {kind}: {answer['Entries'][0].get('ErrorCode')}")
