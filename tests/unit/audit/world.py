"""An audit of a fleet without real databases, as a durable execution."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner

from rdsiam.access.model import parse
from rdsiam.access.store import Versioned
from rdsiam.audit import batch, flow, steps
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.steps import AuditServices
from rdsiam.audit.store import AuditStore
from rdsiam.aws.rds import Database, ResourceIds
from rdsiam.engines.connection import Limits
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.events.audit_batch import batch_request
from rdsiam.state.record import Record
from tests.unit.bucket import Bucket
from tests.unit.results import Results

FUNCTION, ONBOARD = "AuditBatchFunction", "OnboardFunction:audit"
ACCESS = """
version: 1
databases: [{match: {identifier: none}, users: [{name: app, privileges: readonly, on: [shop]}]}]
"""


class World:
    """An account with a fleet, an audit of it, and a receiver of notifications."""

    def __init__(self, patch: pytest.MonkeyPatch, databases: list[Database]) -> None:
        self.databases = databases
        self.bucket = Bucket()
        self.store = AuditStore(self.bucket, "reports")
        self.access = SimpleNamespace(current=lambda: Versioned(parse(ACCESS), "v1"))
        self.notified: list[tuple[dict[str, Any], frozenset[str], bool]] = []
        self.read: list[str] = []
        self.limits: list[Limits] = []
        self.reading: Callable[[Database], ServerFacts | Unreadable] = lambda _: facts("legacy")
        self.dying: Callable[[int, int], bool] = lambda *_: False
        self.attempts: dict[int, int] = {}
        self.slow: list[int] = []
        self.seconds = 20.0
        self.policies: Callable[[Any], Any] = lambda _: ()
        self.records: dict[str, Record] = {}
        self.started: list[dict[str, Any]] = []
        patch.setattr(batch, "read", self._read)
        patch.setattr(steps, "holders", lambda iam: self.policies(iam))

    def audit(self, *arns: str, daily: bool = False) -> dict[str, Any]:
        """Run an audit to its end and return the answer."""
        result = self.execute(list(arns) or None, daily)
        assert result.result is not None, result.error
        answer: dict[str, Any] = json.loads(result.result)
        return answer

    def execute(self, arns: list[str] | None, daily: bool = False) -> Any:
        """Run an audit to its end, whatever that is."""

        @durable_execution
        def handler(_: Any, context: DurableContext) -> dict[str, Any]:
            return flow.audit(context, self._services(), arns, daily).to_json()

        with DurableFunctionTestRunner(handler, poll_interval=0.01) as runner:
            runner.register_function(FUNCTION, self._batch)
            return runner.run("{}", execution_timeout=60)

    def report(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the report of an audit."""
        found: dict[str, Any] = json.loads(self.store.report(answer["id"], "json"))
        return found

    def _batch(self, event: Any, _: Any) -> Any:
        request = batch_request(event)
        number = request.number
        self.attempts[number] = attempt = self.attempts.get(number, 0) + 1
        if request.slow:
            self.slow.append(number)
        if self.dying(number, attempt):
            raise RuntimeError("Task timed out")
        services: Any = SimpleNamespace(
            store=self.store,
            access=self.access,
            inventory=SimpleNamespace(
                items=lambda arns: {arn: {"it": self.records[arn]} for arn in arns if arn in self.records},
                record=lambda _, item: item["it"],
            ),
            logins=None,
        )
        return batch.audit_batch(services, request, self.seconds).to_json()

    def _read(self, one: Database, _: Any, limits: Limits) -> ServerFacts | Unreadable:
        self.read.append(one.identifier)
        self.limits.append(limits)
        return self.reading(one)

    def _services(self) -> AuditServices:
        known = {one.arn: one for one in self.databases}
        databases: Any = SimpleNamespace(
            list=lambda: iter(self.databases),
            describe=known.__getitem__,
            proxies=list,
            identities=lambda: ResourceIds({one.resource_id: one.arn for one in self.databases}, {}),
        )
        secrets: Any = SimpleNamespace(list=lambda _: iter(()))
        notifier: Any = SimpleNamespace(notify=lambda report, _, new, news: self.notified.append((report, new, news)))
        access: Any = self.access
        deployment = Deployment("aws", "eu-west-1", "123456789012")
        functions = SimpleNamespace(invoke=lambda **request: self.started.append(request))
        return AuditServices(
            databases,
            access,
            self.store,
            notifier,
            None,
            secrets,
            FUNCTION,
            deployment,
            Results(),
            functions,
            ONBOARD,
            at_once=3,
        )


def facts(*names: str) -> ServerFacts:
    return ServerFacts("18.1", True, (), tuple(AccountFacts(name, password=True) for name in names))
