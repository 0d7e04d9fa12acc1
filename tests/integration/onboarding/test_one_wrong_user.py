"""One declared user that can't be made stops no other: it is named, with the reason and what to do."""

import pytest

from tests.integration.account import Account


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def arn(account: Account, request: pytest.FixtureRequest) -> str:
    """Return a database of whose three declared users one can be made."""
    name = f"one-wrong-{request.param}"
    role = account.make_role(name)
    account.declare(
        name,
        {"name": "analyst", "privileges": "readonly", "on": ["shop"], "roles": [role]},
        {"name": "app_iam", "replaces": "nosuch", "roles": [role]},
        {"name": "again_iam", "replaces": "nobody", "roles": []},
    )
    arn: str = account.create(name, request.param)
    account.wait_onboarded(arn)
    return arn


def test_a_successor_of_nobody_is_named_and_all_others_are_made(account, arn):
    answer = account.invoke("OnboardFunction", {"database": arn})
    assert (answer["status"], answer["changes"], answer["code"]) == ("incomplete", [], ""), answer
    named = {part["what"]: part for part in answer["incomplete"]}
    assert set(named) == {"user again_iam", "user app_iam"}
    assert "app_iam replaces nosuch, and there is no " in named["user app_iam"]["reason"]
    assert named["user app_iam"]["remedy"] == "correct `replaces`"
    assert not named["user app_iam"]["retry"]
    assert arn not in account.reconcile()["started"], "it can't be made before somebody corrects it"

    role = f"arn:aws:iam::{account.cloud.account}:role/{arn.rpartition(':')[2]}"
    credentials = account.assume(role)
    account.connect(arn, "analyst", account.token(arn, "analyst", credentials)).close()
    assert account.refused(arn, "app_iam", account.token(arn, "app_iam", credentials))


def test_a_plan_names_it_too(account, arn):
    answer = account.invoke("OnboardFunction", {"database": arn, "plan": True})
    assert answer["changes"] == []
    assert {part["what"] for part in answer["incomplete"]} == {"user again_iam", "user app_iam"}
