"""Requests that OnboardFunction has nothing to do for: ignored with a reason, or refused with the field."""

import json

import pytest

from tests.integration.audit.shell import in_shell


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


def test_a_version_without_iam_authentication_is_left_alone_until_it_is_upgraded(account):
    """Nothing is retried, and no reconcile starts it again; the finding's advice works."""
    name = "iam-unavailable"
    account.declare(name, {"name": "app", "privileges": "readonly", "on": ["shop"]})
    arn = account.create(name, "mariadb", EngineVersion="10.6.24")
    account.wait(arn)
    answer = account.onboard(arn)
    assert (answer["status"], answer["code"]) == ("ignored", "iam-unavailable")
    assert answer["reason"].endswith("mariadb 10.6.24 has no IAM authentication here")
    assert answer["remedy"].startswith("upgrade it to 10.11.")
    assert arn not in account.reconcile()["started"]
    assert account.onboard(arn)["status"] == "ignored"
    rds = account.cloud.client("rds")
    with pytest.raises(rds.exceptions.ClientError, match="not supported for this configuration"):
        rds.modify_db_instance(DBInstanceIdentifier=name, EnableIAMDatabaseAuthentication=True, ApplyImmediately=True)
    found = findings(account, arn)
    assert [one["kind"] for one in found] == ["iam-authentication-unavailable"]
    in_window, now = [step["text"] for step in found[0]["remediation"] if step["language"] == "cli"]
    assert "--apply-immediately" not in in_window
    ended = in_shell(account, now)
    assert ended.returncode == 0, ended.stderr
    account.wait_onboarded(arn, 120)  # by the event of the upgrade
    assert account.describe(arn)["IAMDatabaseAuthenticationEnabled"]


def findings(account, arn):
    """Audit the database, and return the findings."""
    bucket = account.cloud.outputs["ReportBucket"]
    uri = account.invoke("AuditFunction", {"databases": [arn]})["reports"]["json"]
    body = account.cloud.client("s3").get_object(Bucket=bucket, Key=uri.partition(f"{bucket}/")[2])["Body"].read()
    return json.loads(body)["findings"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [({}, "database"), ({"database": "orders"}, "database"), ({"detail-type": "x"}, "detail-type")],
)
def test_malformed_input_is_an_error_that_names_the_field_without_a_traceback(account, payload, field):
    answer = account.invoke("OnboardFunction", payload)
    assert answer["errorType"].endswith("InvalidRequest")
    assert answer["errorMessage"].startswith(f"{field}: ")
    assert not answer.get("stackTrace")
