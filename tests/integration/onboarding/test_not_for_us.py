"""Requests that OnboardFunction has nothing to do for: ignored with a reason, or refused with the field."""

import pytest


def test_databases_that_are_not_for_us_are_ignored_with_a_reason(account):
    nowhere = f"arn:aws:rds:{account.cloud.region}:{account.cloud.info['account']}:db:vanished"
    oracle = account.create("oracle-1", "oracle-ee", DBName="ORCL", LicenseModel="bring-your-own-license")
    undeclared = account.create("undeclared-1")
    account.wait(undeclared)
    cases = {
        "vanished": nowhere,
        "unsupported": oracle,
        "undeclared": undeclared,
        "a cluster": nowhere.replace(":db:", ":cluster:"),
        "another region": nowhere.replace(account.cloud.region, "us-west-2"),
        "another account": nowhere.replace(account.cloud.info["account"], "999999999999"),
    }
    for why, arn in cases.items():
        answer = account.invoke("OnboardFunction", {"database": arn})
        assert answer["status"] == "ignored", (why, answer)
        assert answer["reason"], why


def test_a_request_that_comes_before_its_database_is_finished_is_ignored_until_it_is(account):
    user = {"name": "app", "privileges": "readonly", "on": ["shop"]}
    for number in range(5):  # on a slow machine the database may be finished before the function has looked
        name = f"creating-{number}"
        account.declare(name, user)
        arn = account.create(name)
        answer = account.invoke("OnboardFunction", {"database": arn})
        if answer["status"] == "ignored":
            break
    assert answer["status"] == "ignored"
    assert "creating" in answer["reason"]
    account.wait_onboarded(arn)


@pytest.mark.parametrize(
    ("payload", "field"),
    [({}, "database"), ({"database": "orders"}, "database"), ({"detail-type": "x"}, "detail-type")],
)
def test_malformed_input_is_an_error_that_names_the_field_without_a_traceback(account, payload, field):
    answer = account.invoke("OnboardFunction", payload)
    assert answer["errorType"].endswith("InvalidRequest")
    assert answer["errorMessage"].startswith(f"{field}: ")
    assert not answer.get("stackTrace")
