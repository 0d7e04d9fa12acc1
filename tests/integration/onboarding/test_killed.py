"""Onboarding can be killed at any moment: run again, it ends in the same state."""

import importlib.util
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aws_durable_execution_sdk_python.exceptions import CheckpointError
from aws_durable_execution_sdk_python_testing import DurableFunctionTestRunner
from aws_durable_execution_sdk_python_testing.client import InMemoryServiceClient
from aws_durable_execution_sdk_python_testing.executor import Executor

from rdsiam.aws import clients
from rdsiam.onboarding.database_users import Users
from rdsiam.onboarding.iam_authentication import IamAuthentication
from rdsiam.onboarding.inspection import Inspector
from rdsiam.onboarding.privileges import Privileges
from rdsiam.onboarding.publication import Publication
from rdsiam.onboarding.recording import Recording
from rdsiam.tokens import trust
from tests.integration.account import Account, processes_of, until
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

ROOT = Path(__file__).parents[3]
Handler = Callable[[Any, Any], Any]
PRIVILEGES = "make privileges"
#: Steps with an effect; each is repeated after its effect, as after a kill between the effect and its checkpoint.
STEPS: dict[str, tuple[type, str]] = {
    "describe": (Inspector, "inspect"),
    "switch IAM authentication on": (IamAuthentication, "enable"),
    "make users": (Users, "converge"),
    PRIVILEGES: (Privileges, "converge"),
    "prove": (Users, "prove"),
    "record": (Recording, "onboarded"),
    "publish": (Publication, "onboarded"),
}
#: More than any run writes; the test sees to it that it is. The SDK sends several at once, fewer on a slow machine.
MOST_CHECKPOINTS = 24


@pytest.fixture(scope="module")
def functions(account) -> Iterator[dict[str, Handler]]:
    """OnboardFunction in this process, with environment and role of the deployed one; PolicyFunction where it is."""
    environment = {"AWS_ENDPOINT_URL": account.cloud.endpoint, "AWS_DEFAULT_REGION": account.cloud.region}
    lambda_client = account.cloud.client("lambda")
    for name in ("PolicyFunction", "OnboardFunction"):
        bare = account.cloud.functions[name].partition(":")[0]
        found = lambda_client.get_function_configuration(FunctionName=bare)
        environment |= found["Environment"]["Variables"] | {"AWS_LAMBDA_FUNCTION_NAME": bare}
    credentials = account.credentials_of("OnboardFunction")
    environment |= {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("AWS_SAM_LOCAL", "true")  # the runner knows no aliases
        caches = (trust.ca_file, clients.client, clients._session)
        for cache in caches:
            cache.cache_clear()
        # The runner skips waits, so each poll would be a checkpoint more: here one poll waits until it is true.
        enabled = IamAuthentication.is_enabled
        patch.setattr(IamAuthentication, "is_enabled", lambda self: until(lambda: enabled(self), 30))

        def policy(event: Any, _: Any) -> Any:
            answer = account.invoke("PolicyFunction", event, credentials)
            if "errorMessage" in answer:
                raise RuntimeError(answer["errorMessage"])
            return answer

        yield {"onboard": load("onboard").handler, "policy": policy}
    for cache in caches:
        cache.cache_clear()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_app", ROOT / "functions" / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Kills:
    """Fails the checkpoint of that number, as if the process had died before it was written."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.seen = 0
        self.killed = False
        checkpoint = InMemoryServiceClient.checkpoint

        def maybe(client: InMemoryServiceClient, *arguments: Any, **named: Any) -> Any:
            self.seen += 1
            if self.seen == at:
                self.killed = True
                raise CheckpointError("killed")
            return checkpoint(client, *arguments, **named)

        patch.setattr(InMemoryServiceClient, "checkpoint", maybe)
        patch.setattr(Executor, "RETRY_BACKOFF_SECONDS", 0)


def run(functions: dict[str, Handler], arn: str) -> dict[str, Any]:
    """Run one durable execution to its end."""
    with DurableFunctionTestRunner(functions["onboard"], poll_interval=0.02) as runner:
        runner.register_function(os.environ["RDSIAM_POLICY_FUNCTION"], functions["policy"])
        result = runner.run(json.dumps({"database": arn}), execution_timeout=60)
    assert result.result is not None, result.error
    answer: dict[str, Any] = json.loads(result.result)
    return answer


class Fleet:
    """Databases of one engine that nobody has onboarded: they are declared only after their event was ignored."""

    def __init__(self, account: Account, engine: str) -> None:
        self._account = account
        self.engine = engine
        self._roles = [account.make_role(f"killed-{engine}-{user}") for user in ("app", "owner")]
        self._made = 0
        self.arns: list[str] = []

    def make(self, count: int) -> None:
        """Make some, all at once: that is a good deal faster than one by one."""
        account, log = self._account, self._account.cloud.logs / "OnboardFunction.log"
        names = [f"killed-{self.engine}-{number}" for number in range(self._made, self._made + count)]
        self._made += count
        self.arns += (arns := [account.create(name, self.engine) for name in names])
        for arn in arns:
            account.wait(arn, seconds=120)
        until(lambda: set(arns) <= ended_ignored(log), 120)
        for name in names:
            users = [
                {"name": "app", "privileges": "readwrite", "on": ["shop"], "roles": [self._roles[0]]},
                {"name": "owner", "privileges": "owner", "on": ["shop"], "roles": [self._roles[1]]},
            ]
            account.entries[name] = {"match": {"identifier": name}, "users": users}
        account.publish_entries()

    def take(self) -> str:
        """Return one that was not taken yet."""
        if not self.arns:
            self.make(6)
        return self.arns.pop(0)


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def fleet(account, request) -> Fleet:
    return Fleet(account, request.param)


def ended_ignored(log: Path) -> set[str]:
    """Return the databases whose own event has started an onboarding that has ended."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("{") and '"onboarding ended"' in line]
    return {record["database"] for record in map(json.loads, lines) if record["status"] == "ignored"}


def end_state(account: Account, arn: str) -> dict[str, Any]:
    """Return all that an onboarding leaves, without what differs from database to database by nature."""
    record = account.record(arn)
    assert record is not None
    resource_id = record["resource_id"]["S"]
    policies = {}
    for role in ("app", "owner"):
        name = f"{arn.rpartition(':')[2].rpartition('-')[0]}-{role}"
        iam = account.cloud.client("iam")
        for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"][
                "Document"
            ]
            policies[role] = [one for one in document["Statement"][0]["Resource"] if f"{resource_id}/" in one]
    query = (
        "SELECT g.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid "
        "JOIN pg_roles m ON m.oid = a.member ORDER BY 1, 2"
        if "postgres" in arn
        else "SELECT grantee, table_schema, privilege_type FROM information_schema.schema_privileges ORDER BY 1, 2, 3"
    )
    with account.as_master(arn) as master:
        in_the_database = master.run(query)
    return {
        "accounts": record["accounts"],
        "finished": record["finished"],
        "policies": json.loads(json.dumps(policies).replace(resource_id, "RESOURCE")),
        "database": in_the_database,
    }


@pytest.fixture(scope="module")
def expected(account, functions, fleet) -> dict[str, Any]:
    """Return the end state of an undisturbed onboarding."""
    arn = fleet.take()
    assert run(functions, arn)["status"] == "onboarded"
    state = end_state(account, arn)
    assert state["policies"]["app"]
    return state


@pytest.mark.exhaustive_on("mariadb", "describe", "prove", "record", "publish")
@pytest.mark.parametrize("step", [step for step in STEPS if step != PRIVILEGES])
def test_killed_after_the_effect_of_a_step_it_ends_in_the_same_state(account, functions, fleet, expected, step):
    ends_in_the_same_state(account, functions, fleet, expected, step)


# MySQL and MariaDB have no databases within a server: users and privileges are one step.
@pytest.mark.parametrize("fleet", ["postgres", OLDER_EXHAUSTIVE], indirect=True)
def test_killed_after_privileges_were_made_it_ends_in_the_same_state(account, functions, fleet, expected):
    ends_in_the_same_state(account, functions, fleet, expected, PRIVILEGES)


def ends_in_the_same_state(
    account: Account, functions: dict[str, Handler], fleet: Fleet, expected: dict[str, Any], step: str
) -> None:
    """Kill an onboarding after the effect of a step, and check that it ends as one that was not killed."""
    arn = fleet.take()
    owner, name = STEPS[step]
    work: Callable[..., Any] = getattr(owner, name)
    died: list[str] = []

    def die_once(*arguments: Any, **named: Any) -> Any:
        result = work(*arguments, **named)
        if not died:
            died.append(step)
            raise RuntimeError("killed after the effect")
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, die_once)
        run(functions, arn)
    assert died
    assert end_state(account, arn) == expected
    assert run(functions, arn)["status"] == "unchanged"


def killed_at(account: Account, functions: dict[str, Handler], arn: str, at: int, expected: dict[str, Any]) -> bool:
    """Kill an onboarding at a checkpoint, see that it ends as expected, and return whether it got that far."""
    with pytest.MonkeyPatch.context() as patch:
        kills = Kills(patch, at)
        run(functions, arn)
    assert end_state(account, arn) == expected, f"killed at checkpoint {at}"
    assert run(functions, arn)["status"] == "unchanged"
    return kills.killed


def test_killed_at_a_checkpoint_it_ends_in_the_same_state(account, functions, fleet, expected):
    assert killed_at(account, functions, fleet.take(), 4, expected)


@pytest.mark.exhaustive
def test_killed_at_every_checkpoint_it_ends_in_the_same_state(account, functions, fleet, expected):
    for at in range(1, MOST_CHECKPOINTS + 1):
        if not killed_at(account, functions, fleet.take(), at, expected):
            break  # it ended before: every checkpoint has had its turn
    else:
        pytest.fail("more checkpoints than were tried")
    assert at > 5


@pytest.mark.exhaustive_on("described", "create")
@pytest.mark.parametrize("moment", ["described", "switched IAM authentication on", "create-manager"])
def test_killed_for_real_its_execution_goes_on_where_it_stopped(account, moment):
    name = "shot-" + moment.split()[0].replace("create-", "")
    arn = f"arn:aws:rds:{account.cloud.region}:{account.cloud.account}:db:{name}"
    role = account.make_role(name)
    account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    account.create(name)
    log = account.cloud.logs / "OnboardFunction.log"
    until(lambda: any(moment in line and arn in line for line in log.read_text().splitlines()), 60, every=0.05)
    shot = processes_of(account.cloud.functions["OnboardFunction"].partition(":")[0])
    for process in shot:
        process.send_signal(signal.SIGKILL)
    assert shot
    account.wait_onboarded(arn, 90)
    account.connect(arn, "app", account.token(arn, "app", account.assume(role))).close()
    assert account.onboard(arn)["status"] == "unchanged"
