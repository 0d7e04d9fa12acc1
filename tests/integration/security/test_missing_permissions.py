"""A permission that a function's role lacks stops the service, so that one that it has too many would be noticed."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.integration.account import Account, until


@contextlib.contextmanager
def without(account: Account, function: str, sid: str, action: str) -> Iterator[None]:
    """Take an action out of a statement of a function's role, as if the template lacked it, and put it back."""
    iam = account.cloud.client("iam")
    name = account.cloud.functions[function].partition(":")[0]
    configuration = account.cloud.client("lambda").get_function_configuration(FunctionName=name)
    role = configuration["Role"].rpartition("/")[2]
    documents = {
        policy: iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
    }
    policy, statement = next(
        (policy, statement)
        for policy, document in documents.items()
        for statement in document["Statement"]
        if statement.get("Sid") == sid
    )
    assert statement["Action"] in (action, [action])
    whole = json.dumps(documents[policy])
    statement["Action"] = "sqs:SendMessage"
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(documents[policy]))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=whole)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("function", "sid", "action"),
    [
        ("OnboardFunction", "SwitchIamAuthenticationOn", "rds:ModifyDBInstance"),
        ("PolicyFunction", "AttachConnectPoliciesToManagedRoles", "iam:AttachRolePolicy"),
    ],
    ids=["OnboardFunction's", "PolicyFunction's"],
)
def test_a_permission_that_is_missing_is_missed(account, function, sid, action):
    name = f"missed-by-{function.lower()}"
    role = account.make_role(name)
    account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
    denied = f"is not authorized to perform: {action}"
    logs = [account.cloud.logs / f"{each}.log" for each in ("OnboardFunction", "PolicyFunction")]

    def denials() -> int:
        return sum(log.read_text().count(denied) for log in logs if log.exists())

    before = denials()
    with without(account, function, sid, action):
        arn = account.create(name)
        until(lambda: denials() > before, 60)
        assert not (account.record(arn) or {}).get("finished", {}).get("BOOL")
    assert account.onboard(arn)["status"] in {"onboarded", "unchanged"}
