"""A fleet whose vended users don't fit into one ConnectRole: shards, and what is left out when all are full."""

from collections.abc import Iterator
from typing import Any

import pytest

from localcloud import client
from tests.integration.account import Account
from tests.integration.api_requests import post

pytestmark = pytest.mark.exhaustive

#: With names of this length a policy has room for 43 logins, and each role may have one policy.
USERS = [f"u{number:02}{'x' * 60}" for number in range(30)]
PARAMETERS = ("ConnectRoleShards=2", "PoliciesPerRole=1")


@pytest.fixture(scope="module")
def account(tmp_path_factory) -> Iterator[Account]:
    """Return an account of its own, as the parameters are those of a stack."""
    log = tmp_path_factory.mktemp("cloud") / "cloud.log"
    with client.start(*(part for one in PARAMETERS for part in ("--parameter", one)), log=log) as running:
        account = Account(running)
        account.follow_access_yaml(False)
        yield account


@pytest.fixture(scope="module")
def caller(account) -> str:
    role = account.make_role("caller")
    account.let_call_the_api(role)
    return role


@pytest.fixture(scope="module")
def fleet(account, caller) -> dict[str, dict[str, Any]]:
    """Three databases with thirty vended users each → the answers of their onboarding."""
    answers = {}
    for name in ("one", "two", "three"):
        vended = [
            {"name": user, "privileges": "readonly", "on": ["shop"], "callers": [{"role": caller}]} for user in USERS
        ]
        account.declare(name, *vended)
    for name in ("one", "two", "three"):
        arn = account.create(name)
        account.wait_onboarded(arn, 120)
        answers[arn] = account.onboard(arn)
    return answers


def shards(account: Account, arn: str) -> dict[str, int]:
    """Return the recorded shards of a database's users."""
    record = account.record(arn)
    assert record is not None
    return {user: int(number["N"]) for user, number in record["shards"]["M"].items()}


def test_only_the_logins_without_room_are_left_out_and_named(account, fleet):
    *first, last = fleet.values()
    assert [answer["incomplete"] for answer in first] == [[], []]
    assert last["status"] == "incomplete"
    (part,) = last["incomplete"]
    assert part["retry"]
    assert "ConnectRole has no room for db-" in part["reason"]
    assert "ConnectRoleShards" in part["remedy"]
    recorded = [shards(account, arn) for arn in fleet]
    assert [set(each.values()) for each in recorded] == [{1}, {2}, {1, 2}]
    assert 0 < len(set(USERS) - set(recorded[2])) < 10


def test_a_login_of_each_shard_works_and_others_do_not(account, caller, fleet):
    credentials = account.assume(caller)
    for arn in fleet:
        recorded = shards(account, arn)
        for user in {shard: user for user, shard in recorded.items()}.values():
            answer = post(account, credentials, {"database": arn, "user": user})
            assert answer.status_code == 200, answer.text
            account.connect(arn, user, answer.json()["token"]).close()
    left_out = min(set(USERS) - set(shards(account, arn)))
    answer = post(account, credentials, {"database": arn, "user": left_out})
    assert answer.status_code == 200, "access.yaml allows it, and IAM does not"
    assert account.refused(arn, left_out, answer.json()["token"])


def test_the_next_reconcile_tries_again_and_room_that_was_made_is_used(account, fleet):
    one, _, three = fleet
    assert account.reconcile(plan=True)["started"] == [three]
    account.declare("one", *account.entries["one"]["users"][:5])
    account.onboard(one, beyond_limit=True, confirm=True)
    answer = account.onboard(three)
    assert answer["status"] in ("onboarded", "unchanged"), "unchanged, if the event of its creation came late"
    assert answer["incomplete"] == []
    assert set(shards(account, three)) == set(USERS)
