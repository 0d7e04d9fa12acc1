"""The fleet as it is: clusters, replicas, copies and proxies become what access.yaml declares, each in its own way."""

import json
from typing import Any

import pytest

from tests.integration.account import Account, until
from tests.integration.databases import REFUSED, Databases

pytestmark = pytest.mark.exhaustive_on("mysql", "postgres")

ENGINE_NAMES = ["postgres", "mariadb"]


def reader(role: str, name: str = "app") -> dict[str, Any]:
    return {"name": name, "privileges": "readonly", "on": ["shop"], "roles": [role]}


def allowed(account: Account, role: str) -> set[str]:
    """Return `resource id/user` for each login that the policies of the role allow."""
    iam, found = account.cloud.client("iam"), set()
    for policy in iam.list_attached_role_policies(RoleName=role.rpartition("/")[2])["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        try:
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        except iam.exceptions.NoSuchEntityException:
            continue  # a run has deleted it since it was listed
        found |= {one.partition("dbuser:")[2] for one in document["Statement"][0]["Resource"]}
    return found


def login(account: Account, databases: Databases, described: dict[str, Any], role: str, user: str = "app") -> Any:
    """Log in with a token that boto3 signs with the role, whatever its policies say by now."""
    host, port = described["Endpoint"], described.get("Port")
    if isinstance(host, dict):
        host, port = host["Address"], host["Port"]
    rds = account.cloud.client("rds", account.assume(role))
    return databases.connect(described, user, rds.generate_db_auth_token(host, port, user))


# --- clusters ---


@pytest.fixture(scope="module", params=["aurora-postgresql", "aurora-mysql"])
def cluster(account, databases, request) -> dict[str, Any]:
    """Return a cluster that became passwordless by its writer's event."""
    name = f"own-{request.param}"
    role = account.make_role(name)
    account.declare(name, reader(role))
    databases.make_cluster(name, request.param, members=2, DatabaseName="shop")
    arn = databases.cluster(name)["DBClusterArn"]
    account.wait_onboarded(arn, 120)
    return {"name": name, "arn": arn, "role": role}


def test_a_cluster_is_onboarded_by_its_writers_event(account, databases, cluster):
    described = databases.cluster(cluster["name"])
    assert described["IAMDatabaseAuthenticationEnabled"]
    assert allowed(account, cluster["role"]) == {f"{described['DbClusterResourceId']}/app"}
    login(account, databases, described, cluster["role"]).__exit__()
    for number in (1, 2):
        assert account.record(databases.instance(f"{cluster['name']}-{number}")["DBInstanceArn"]) is None


def test_its_writers_arn_means_the_cluster_and_a_readers_nothing(account, databases, cluster):
    writer = databases.instance(f"{cluster['name']}-1")["DBInstanceArn"]
    answer = account.onboard(writer)
    assert (answer["database"], answer["status"]) == (cluster["arn"], "unchanged")
    answer = account.onboard(databases.instance(f"{cluster['name']}-2")["DBInstanceArn"])
    assert answer["status"] == "ignored"
    assert "reader of cluster" in answer["reason"]


def test_a_reconcile_counts_a_cluster_once(account, cluster):
    started = account.reconcile(plan=True)["started"]
    assert not [arn for arn in started if cluster["name"] in arn]


def test_a_cluster_without_an_instance_waits_for_it(account, databases):
    account.declare("empty", reader(account.make_role("empty")))
    databases.rds.create_db_cluster(
        DBClusterIdentifier="empty", Engine="aurora-postgresql", MasterUsername="boss", ManageMasterUserPassword=True
    )
    arn = databases.cluster("empty")["DBClusterArn"]
    until(lambda: databases.cluster("empty")["Status"] == "available", 60)
    answer = account.onboard(arn)
    assert answer["status"] == "ignored"
    assert "no instance yet" in answer["reason"]


def test_a_deleted_cluster_is_forgotten(account, databases, cluster):
    databases.drop(f"{cluster['name']}-2", f"{cluster['name']}-1")
    databases.rds.delete_db_cluster(DBClusterIdentifier=cluster["name"], SkipFinalSnapshot=True)
    until(lambda: account.record(cluster["arn"]) is None, 60)
    assert allowed(account, cluster["role"]) == set()


# --- copies ---


@pytest.fixture(scope="module", params=ENGINE_NAMES)
def source(account, databases, request) -> dict[str, Any]:
    """Return an onboarded instance and its snapshot."""
    engine = request.param
    name = f"source-{engine}"
    role = account.make_role(name)
    account.declare(name, reader(role), reader(role, "other"))
    arn = account.create(name, engine)
    account.wait_onboarded(arn, 120)
    databases.available(name)
    databases.rds.create_db_snapshot(DBSnapshotIdentifier=f"snap-{name}", DBInstanceIdentifier=name)
    until(lambda: snapshot(databases, f"snap-{name}")["Status"] == "available", 60)
    return {"name": name, "arn": arn, "role": role, "engine": engine}


def snapshot(databases: Databases, name: str) -> dict[str, Any]:
    return dict(databases.rds.describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"][0])


def test_a_restored_copy_is_taken_over_without_the_master(account, databases, source):
    """Its resource id is new, and RDS keeps no secret of its master's."""
    copy = f"fleet-copy-{source['engine']}"
    role = account.make_role(copy)
    account.declare(copy, reader(role))
    databases.rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier=copy, DBSnapshotIdentifier=f"snap-{source['name']}"
    )
    databases.available(copy)
    described = databases.instance(copy)
    assert "MasterUserSecret" not in described
    account.wait_onboarded(described["DBInstanceArn"], 120)
    assert allowed(account, role) == set(), "its source gives this role nothing"
    confirmed = account.onboard(described["DBInstanceArn"], confirm=True)
    assert (confirmed["status"], confirmed["incomplete"]) == ("onboarded", [])
    described = databases.instance(copy)
    assert allowed(account, role) == {f"{described['DbiResourceId']}/app"}
    login(account, databases, described, role).__exit__()
    with pytest.raises(REFUSED):
        login(account, databases, described, source["role"])
    record = account.record(described["DBInstanceArn"])
    assert record is not None
    assert set(record["accounts"]["M"]) >= {"rdsiam_manager", "rdsiam_auditor", "app"}
    assert "other" not in record["accounts"]["M"], "nobody declares it for the copy"
    assert account.onboard(described["DBInstanceArn"])["status"] == "unchanged"


def test_a_replica_gets_policies_and_no_sql(account, databases, source):
    name = f"fleet-replica-{source['engine']}"
    role = account.make_role(name)
    account.declare(name, reader(role))
    databases.rds.create_db_instance_read_replica(
        DBInstanceIdentifier=name, SourceDBInstanceIdentifier=source["name"], EnableIAMDatabaseAuthentication=True
    )
    databases.available(name)
    described = databases.instance(name)
    account.wait_onboarded(described["DBInstanceArn"], 120)
    assert allowed(account, role) == set(), "its source gives this role nothing"
    assert account.onboard(described["DBInstanceArn"])["status"] == "incomplete"
    assert account.onboard(described["DBInstanceArn"], confirm=True)["status"] == "onboarded"
    assert allowed(account, role) == {f"{described['DbiResourceId']}/app"}
    record = account.record(described["DBInstanceArn"])
    assert record is not None
    assert record["accounts"]["M"] == {}
    assert account.onboard(described["DBInstanceArn"])["status"] == "unchanged"


def test_a_promoted_replica_is_onboarded_at_once_by_its_event(account, databases, source):
    arn = databases.instance(f"fleet-replica-{source['engine']}")["DBInstanceArn"]
    databases.rds.promote_read_replica(DBInstanceIdentifier=f"fleet-replica-{source['engine']}")
    until(lambda: {"rdsiam_manager", "app"} <= set(account.record(arn)["accounts"]["M"]), 60)
    account.wait_onboarded(arn)
    assert account.onboard(arn)["status"] == "unchanged"


def test_a_copy_of_the_same_name_replaces_the_policies_of_the_former(account, databases, source):
    name, arn = source["name"], source["arn"]
    former = databases.instance(name)["DbiResourceId"]
    databases.rds.delete_db_instance(DBInstanceIdentifier=f"fleet-replica-{source['engine']}", SkipFinalSnapshot=True)
    until(lambda: databases.gone(f"fleet-replica-{source['engine']}"), 60)
    databases.drop(name)
    databases.rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=f"snap-{name}")
    databases.available(name)
    now = databases.instance(name)["DbiResourceId"]
    assert now != former
    until(lambda: allowed(account, source["role"]) == {f"{now}/app", f"{now}/other"}, 120)
    account.wait_onboarded(arn, 120)
    login(account, databases, databases.instance(name), source["role"]).__exit__()


# --- proxies ---


def make_proxy(account: Account, databases: Databases, name: str, **more: Any) -> str:
    subnets = account.cloud.client("ec2").describe_subnets()["Subnets"]
    made = databases.rds.create_db_proxy(
        DBProxyName=name,
        EngineFamily="POSTGRESQL",
        RoleArn="arn:aws:iam::123456789012:role/proxy",
        VpcSubnetIds=[subnet["SubnetId"] for subnet in subnets],
        **more,
    )
    return str(made["DBProxy"]["DBProxyArn"])


def test_a_proxy_with_end_to_end_iam_gets_policies_and_loses_them_with_its_deletion(account, databases):
    role = account.make_role("through-proxy")
    account.declare("end-to-end", reader(role))
    arn = make_proxy(account, databases, "end-to-end", DefaultAuthScheme="IAM_AUTH")
    account.wait_onboarded(arn, 120)
    assert allowed(account, role) == {f"{arn.rpartition(':')[2]}/app"}
    bucket, _, key = account.invoke("AuditFunction", {"databases": [arn]})["reports"]["json"][5:].partition("/")
    report = json.load(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    assert [(each["arn"], each["read"]) for each in report["databases"]] == [(arn, "proxy")]
    databases.rds.delete_db_proxy(DBProxyName="end-to-end")
    until(lambda: account.record(arn) is None, 60)
    assert allowed(account, role) == set()


def test_a_classic_proxy_is_left_alone_and_says_why(account, databases):
    secret = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app-AbCdEf"
    account.declare("classic-proxy", reader(account.make_role("classic-proxy")))
    arn = make_proxy(account, databases, "classic-proxy", Auth=[{"AuthScheme": "SECRETS", "SecretArn": secret}])
    answer = account.onboard(arn)
    assert answer["status"] == "ignored", json.dumps(answer)
    assert "classic proxy" in answer["reason"]
    databases.rds.delete_db_proxy(DBProxyName="classic-proxy")
