"""Whoever tags, renames, restores or replicates a database gives nobody a login: gains wait for confirmation."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.api_requests import post

pytestmark = pytest.mark.exhaustive_on("postgres")

ENGINE_NAMES = ["postgres", "mariadb"]


def user(name: str, role: str, privileges: str = "readwrite") -> dict[str, Any]:
    """Declare a user as which the role may log in by itself, and by POST /tokens."""
    return {"name": name, "privileges": privileges, "on": ["shop"], "callers": [{"role": role}], "roles": [role]}


def gets_in(account: Account, database: str, name: str, role: str) -> bool:
    """Return whether the role can log in, with a token of its own or with one that it asked for.

    For a minute after a change VendFunction may still give a token, which logs in nowhere: policies change at once.
    """
    credentials = account.assume(role)
    tokens = [account.token(database, name, credentials)]
    answer = post(account, credentials, {"database": database, "user": name})
    if answer.status_code == 200:
        tokens.append(answer.json()["token"])
    else:
        assert answer.status_code == 403, answer.text
    return not all(account.refused(database, name, token) for token in tokens)


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def prod(account, databases, request) -> Iterator[dict[str, Any]]:
    """Return a database tagged env=prod, to which an engineer may log in; developers may to env=dev and play-*."""
    engine = request.param
    engineer, developer = (account.make_role(f"{role}-{engine}") for role in ("engineer", "developer"))
    for role in (engineer, developer):
        account.let_call_the_api(role)
    name = f"vault-{engine}"
    matches = {
        "prod": ({"env": f"prod-{engine}"}, user("app", engineer)),
        "dev": ({"env": f"dev-{engine}"}, user("app", developer, "owner")),
    }
    for key, (tags, declared) in matches.items():
        account.entries[f"{key}-{engine}"] = {"match": {"tags": tags}, "users": [declared]}
    account.entries[f"play-{engine}"] = {
        "match": {"identifier": f"play-*-{engine}"},
        "users": [user("dev", developer), user("app", developer)],
    }
    # What both attributes give goes on, whatever else waits.
    account.entries[f"both-{engine}"] = {"match": {"identifier": f"*-{engine}"}, "users": [user("both", engineer)]}
    account.publish_entries()
    arn = account.create(name, engine, Tags=[{"Key": "env", "Value": f"prod-{engine}"}])
    account.wait_onboarded(arn, 120)
    databases.available(name)
    rds = account.cloud.client("rds")
    rds.create_db_snapshot(DBSnapshotIdentifier=f"nightly-{engine}", DBInstanceIdentifier=name)
    until(
        lambda: (
            rds.describe_db_snapshots(DBSnapshotIdentifier=f"nightly-{engine}")["DBSnapshots"][0]["Status"]
            == "available"
        ),
        60,
    )
    databases.available(name)
    yield {"engine": engine, "name": name, "arn": arn, "engineer": engineer, "developer": developer}
    for key in ("prod", "dev", "play", "both"):
        account.entries.pop(f"{key}-{engine}", None)
    account.publish_entries()


def test_a_database_that_no_entry_was_about_is_not_tagged_into_one(account, databases):
    """rdsiam made nothing in it, yet it has seen it."""
    role = account.make_role("tagger-of-the-unknown")
    account.let_call_the_api(role)
    account.entries["unknown"] = {"match": {"tags": {"team": "play"}}, "users": [user("dev", role)]}
    account.publish_entries()
    arn = account.create("unknown", Tags=[{"Key": "team", "Value": "secret"}])
    databases.available("unknown")
    until(lambda: account.record(arn) is not None, 60)
    assert account.onboard(arn)["status"] == "ignored"
    account.cloud.client("rds").add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "team", "Value": "play"}])
    account.reconcile()
    until(lambda: "pending" in (account.record(arn) or {}), 60)
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    assert "tag team: secret → play" in answer["reason"]
    assert account.refused(arn, "dev", account.token(arn, "dev", account.assume(role)))
    account.entries["secret"] = {"match": {"tags": {"team": "secret"}}, "users": [user("known", role)]}
    account.publish_entries()
    assert account.onboard(arn)["status"] == "incomplete"
    assert account.onboard(arn, confirm=True)["status"] == "onboarded"
    assert gets_in(account, arn, "dev", role)
    account.entries.pop("secret")
    account.entries.pop("unknown")
    account.publish_entries()


def tag(account: Account, arn: str, value: str) -> None:
    account.cloud.client("rds").add_tags_to_resource(ResourceName=arn, Tags=[{"Key": "env", "Value": value}])


def test_a_tag_takes_logins_at_once_and_gives_none_until_somebody_confirms(account, prod):
    arn, engine = prod["arn"], prod["engine"]
    assert gets_in(account, arn, "app", prod["engineer"])
    engineer = account.assume(prod["engineer"])
    account.start_afresh("VendFunction")
    assert post(account, engineer, {"database": arn, "user": "app"}).status_code == 200
    assert not gets_in(account, arn, "app", prod["developer"])
    tag(account, arn, f"dev-{engine}")

    planned = account.onboard(arn, plan=True)
    assert f"app: caller {prod['developer']}" in planned["incomplete"][0]["reason"]
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    ((waiting),) = answer["incomplete"]
    assert f"tag env: prod-{engine} → dev-{engine}" in waiting["reason"]
    assert "app: owner on shop" in waiting["reason"]
    assert "--confirm" in waiting["remedy"]
    assert not gets_in(account, arn, "app", prod["engineer"])
    assert not gets_in(account, arn, "app", prod["developer"])
    assert gets_in(account, arn, "both", prod["engineer"])
    assert account.onboard(arn)["status"] == "incomplete", "and stays so"
    assert arn not in account.reconcile(plan=True)["started"], "without being visited each hour"

    confirmed = account.onboard(arn, confirm=True)
    assert (confirmed["status"], confirmed["incomplete"]) == ("onboarded", [])
    assert "confirmed: " in confirmed["reason"]
    assert f"app: caller {prod['developer']}" in confirmed["reason"]
    assert gets_in(account, arn, "app", prod["developer"])
    tag(account, arn, f"prod-{engine}")
    assert account.onboard(arn, confirm=True)["status"] == "onboarded"
    assert gets_in(account, arn, "app", prod["engineer"])
    assert account.onboard(arn)["status"] == "unchanged"


def test_what_a_new_access_yaml_gives_by_the_recorded_tags_does_not_wait(account, prod):
    """The publisher decides for the database that was recorded, the tagger for none."""
    arn, engine = prod["arn"], prod["engine"]
    tag(account, arn, f"dev-{engine}")
    for key in ("prod", "dev"):
        account.entries[f"{key}-{engine}"]["users"].append(user("later", prod["engineer"]))
    account.publish_entries()
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    assert "later" not in answer["reason"]
    assert gets_in(account, arn, "later", prod["engineer"])
    assert not gets_in(account, arn, "app", prod["developer"])
    tag(account, arn, f"prod-{engine}")
    assert account.onboard(arn)["status"] == "onboarded"
    assert gets_in(account, arn, "app", prod["engineer"])


def test_a_rename_gives_nothing_and_keeps_revocations(account, databases, prod):
    engine, former = prod["engine"], prod["arn"]
    account.invoke("OnboardFunction", {"database": former, "revoke": ["both"], "reason": "a test"})
    name = f"play-renamed-{engine}"
    rds = account.cloud.client("rds")
    rds.modify_db_instance(DBInstanceIdentifier=prod["name"], NewDBInstanceIdentifier=name, ApplyImmediately=True)
    databases.eventually(lambda: databases.gone(prod["name"]))
    databases.available(name)
    arn = databases.instance(name)["DBInstanceArn"]
    account.reconcile()
    until(lambda: account.record(former) is None and account.record(arn) is not None, 120)
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    assert f"identifier {prod['name']} → {name}" in answer["reason"]
    assert not gets_in(account, arn, "dev", prod["developer"])
    assert not gets_in(account, arn, "app", prod["developer"])
    assert not gets_in(account, arn, "both", prod["engineer"]), "it is revoked still"
    assert gets_in(account, arn, "app", prod["engineer"]), "its tag is as it was"

    rds.modify_db_instance(DBInstanceIdentifier=name, NewDBInstanceIdentifier=prod["name"], ApplyImmediately=True)
    databases.eventually(lambda: databases.gone(name))
    databases.available(prod["name"])
    account.invoke("OnboardFunction", {"database": former, "lift": ["both"]})
    until(lambda: account.onboard(former)["status"] == "unchanged", 120)
    assert gets_in(account, former, "app", prod["engineer"])
    assert gets_in(account, former, "both", prod["engineer"])


def test_a_restored_snapshot_gives_what_its_source_gives_and_nothing_else(account, databases, prod):
    name = f"play-copy-{prod['engine']}"
    databases.rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=name, DBSnapshotIdentifier=f"nightly-{prod['engine']}"
    )
    databases.available(name)
    arn = databases.instance(name)["DBInstanceArn"]
    account.wait_onboarded(arn, 120)
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete", answer
    assert f"dev: caller {prod['developer']}" in answer["reason"]
    assert not gets_in(account, arn, "dev", prod["developer"])
    assert not gets_in(account, arn, "app", prod["developer"])
    assert gets_in(account, arn, "both", prod["engineer"]), "its source gives that, too"

    confirmed = account.onboard(arn, confirm=True)
    assert (confirmed["status"], confirmed["incomplete"]) == ("onboarded", [])
    for declared in ("dev", "app"):
        assert gets_in(account, arn, declared, prod["developer"])
    assert account.onboard(arn)["status"] == "unchanged"


@pytest.mark.exhaustive
def test_a_read_replica_gives_what_its_source_gives_and_nothing_else(account, databases, prod):
    name = f"play-replica-{prod['engine']}"
    databases.rds.create_db_instance_read_replica(
        DBInstanceIdentifier=name, SourceDBInstanceIdentifier=prod["name"], EnableIAMDatabaseAuthentication=True
    )
    databases.available(name)
    arn = databases.instance(name)["DBInstanceArn"]
    account.wait_onboarded(arn, 120)
    answer = account.onboard(arn)
    assert answer["status"] == "incomplete"
    assert not gets_in(account, arn, "app", prod["developer"])
    assert gets_in(account, arn, "both", prod["engineer"])
    databases.rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    databases.eventually(lambda: databases.gone(name))


@pytest.mark.exhaustive
def test_a_snapshot_restored_under_the_name_of_a_renamed_database_is_a_copy_all_the_same(account, databases, prod):
    """Keep a record under a name apart from the next database of that name, which can be tagged later."""
    engine = prod["engine"]
    arn = account.create(f"{engine}-scratch", engine, Tags=[{"Key": "env", "Value": f"dev-{engine}"}])
    account.wait_onboarded(arn, 120)
    databases.available(f"{engine}-scratch")
    assert gets_in(account, arn, "app", prod["developer"])
    databases.rds.modify_db_instance(
        DBInstanceIdentifier=f"{engine}-scratch", NewDBInstanceIdentifier=f"{engine}-renamed", ApplyImmediately=True
    )
    databases.eventually(lambda: databases.gone(f"{engine}-scratch"))
    databases.rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=f"{engine}-scratch", DBSnapshotIdentifier=f"nightly-{engine}",
        EnableIAMDatabaseAuthentication=True, Tags=[{"Key": "env", "Value": "none"}],
    )  # fmt: skip
    databases.available(f"{engine}-scratch", f"{engine}-renamed")
    resource_id = account.describe(arn)["DbiResourceId"]
    # The event's own run has taken the record over, and is over: a run beside it may find its users unfinished.
    until(lambda: (one := account.record(arn))["resource_id"]["S"] == resource_id and one["finished"]["BOOL"], 120)

    tag(account, arn, f"dev-{engine}")
    answer = account.onboard(arn)
    assert not gets_in(account, arn, "app", prod["developer"]), answer
    assert answer["status"] == "incomplete", answer
    assert f"app: caller {prod['developer']}" in answer["reason"]
    renamed = databases.instance(f"{engine}-renamed")["DBInstanceArn"]
    assert account.onboard(renamed)["status"] in {"onboarded", "unchanged"}, "its record has followed it"
    assert gets_in(account, renamed, "app", prod["developer"])
