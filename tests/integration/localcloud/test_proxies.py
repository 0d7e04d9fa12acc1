"""RDS proxies through boto3, as far as Describe tells of them: nobody listens at their endpoints."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app-AbCdEf"


def _create(databases: Any, name: str, **more: Any) -> dict[str, Any]:
    subnets = databases.cloud.client("ec2").describe_subnets()["Subnets"]
    made = databases.rds.create_db_proxy(
        DBProxyName=name, EngineFamily="POSTGRESQL", RoleArn="arn:aws:iam::123456789012:role/proxy",
        VpcSubnetIds=[subnet["SubnetId"] for subnet in subnets], **more,
    )  # fmt: skip
    return dict(made["DBProxy"])


def _describe(databases: Any, name: str) -> dict[str, Any]:
    return dict(databases.rds.describe_db_proxies(DBProxyName=name)["DBProxies"][0])


def test_describe_says_how_a_proxy_authenticates(databases, events):
    end_to_end = _create(databases, "iam-proxy", DefaultAuthScheme="IAM_AUTH", RequireTLS=True,
                         Tags=[{"Key": "env", "Value": "test"}])  # fmt: skip
    auth = {"AuthScheme": "SECRETS", "SecretArn": SECRET, "IAMAuth": "REQUIRED", "UserName": "app"}
    _create(databases, "classic", Auth=[auth])
    assert end_to_end["Status"] == "creating"
    assert end_to_end["DBProxyArn"].rpartition(":")[2].startswith("prx-")
    databases.eventually(lambda: _describe(databases, "classic")["Status"] == "available")
    classic, end_to_end = _describe(databases, "classic"), _describe(databases, "iam-proxy")
    assert (classic["DefaultAuthScheme"], classic["Auth"], classic["RequireTLS"]) == ("NONE", [auth], False)
    assert (end_to_end["DefaultAuthScheme"], end_to_end["Auth"], end_to_end["RequireTLS"]) == ("IAM_AUTH", [], True)
    assert end_to_end["Endpoint"].startswith("iam-proxy.proxy-")
    tags = databases.rds.list_tags_for_resource(ResourceName=end_to_end["DBProxyArn"])["TagList"]
    assert tags == [{"Key": "env", "Value": "test"}]
    databases.eventually(lambda: events.of("classic") == ["0203"])
    for name in ("classic", "iam-proxy"):
        databases.rds.delete_db_proxy(DBProxyName=name)
    databases.eventually(lambda: events.of("iam-proxy") == ["0203", "0205"])
    left = {proxy["DBProxyName"] for proxy in databases.rds.describe_db_proxies()["DBProxies"]}
    assert not left & {"classic", "iam-proxy"}


def test_a_proxy_s_targets_are_instances_and_clusters_with_their_members(databases):
    databases.make_cluster("behind", "aurora-postgresql", members=2)
    databases.make("alone", "postgres")
    databases.available("behind-1", "behind-2", "alone")
    _create(databases, "front", DefaultAuthScheme="IAM_AUTH")
    _create(databases, "side", DefaultAuthScheme="IAM_AUTH")
    databases.rds.register_db_proxy_targets(DBProxyName="front", DBClusterIdentifiers=["behind"])
    databases.rds.register_db_proxy_targets(DBProxyName="side", DBInstanceIdentifiers=["alone"])
    targets = databases.rds.describe_db_proxy_targets(DBProxyName="front")["Targets"]
    assert [(each["Type"], each["RdsResourceId"], each.get("TrackedClusterId")) for each in targets] == [
        ("TRACKED_CLUSTER", "behind", None),
        ("RDS_INSTANCE", "behind-1", "behind"),
        ("RDS_INSTANCE", "behind-2", "behind"),
    ]
    assert [each.get("Role") for each in targets] == [None, "READ_WRITE", "READ_ONLY"]
    alone = databases.rds.describe_db_proxy_targets(DBProxyName="side")["Targets"]
    assert [(each["Type"], each["RdsResourceId"]) for each in alone] == [("RDS_INSTANCE", "alone")]
    databases.rds.deregister_db_proxy_targets(DBProxyName="side", DBInstanceIdentifiers=["alone"])
    assert databases.rds.describe_db_proxy_targets(DBProxyName="side")["Targets"] == []
    for name in ("front", "side"):
        databases.rds.delete_db_proxy(DBProxyName=name)
    databases.drop("behind-1", "behind-2", "alone")
    databases.rds.delete_db_cluster(DBClusterIdentifier="behind", SkipFinalSnapshot=True)


def test_unknown_names_and_a_proxy_without_auth_are_refused(databases):
    with pytest.raises(ClientError, match="Auth is required"):
        _create(databases, "none")
    with pytest.raises(ClientError, match="DBProxyNotFoundFault"):
        databases.rds.describe_db_proxy_targets(DBProxyName="nowhere")
    _create(databases, "lonely", DefaultAuthScheme="IAM_AUTH")
    with pytest.raises(ClientError, match="DBClusterNotFoundFault"):
        databases.rds.register_db_proxy_targets(DBProxyName="lonely", DBClusterIdentifiers=["nowhere"])
    databases.rds.delete_db_proxy(DBProxyName="lonely")


def test_further_endpoints_of_a_proxy_are_described_with_their_role(databases):
    proxy = _create(databases, "many", DefaultAuthScheme="IAM_AUTH")
    databases.eventually(lambda: _describe(databases, "many")["Status"] == "available")
    subnets, rds = proxy["VpcSubnetIds"], databases.rds
    for name, options in (("Reads", {"TargetRole": "READ_ONLY"}), ("writes", {})):
        made = rds.create_db_proxy_endpoint(
            DBProxyName="many", DBProxyEndpointName=name, VpcSubnetIds=subnets, **options
        )["DBProxyEndpoint"]
        assert made["Status"] == "creating"
    databases.eventually(lambda: {each["Status"] for each in _endpoints(databases, "many")} == {"available"})
    reads, writes = _endpoints(databases, "many")
    domain = proxy["Endpoint"].partition(".")[2]
    assert (reads["Endpoint"], reads["TargetRole"]) == (f"reads.endpoint.{domain}", "READ_ONLY")
    assert (writes["Endpoint"], writes["TargetRole"]) == (f"writes.endpoint.{domain}", "READ_WRITE")
    assert reads["DBProxyEndpointArn"].rpartition(":")[2].startswith("prx-endpoint-")
    assert not reads["IsDefault"]
    first = rds.describe_db_proxy_endpoints(DBProxyName="many", MaxRecords=20, DBProxyEndpointName="writes")
    assert [each["DBProxyEndpointName"] for each in first["DBProxyEndpoints"]] == ["writes"]
    for call, error in (
        (lambda: rds.create_db_proxy_endpoint(DBProxyName="many", DBProxyEndpointName="reads", VpcSubnetIds=subnets),
         "DBProxyEndpointAlreadyExistsFault"),
        (lambda: rds.create_db_proxy_endpoint(DBProxyName="none", DBProxyEndpointName="x", VpcSubnetIds=subnets),
         "DBProxyNotFoundFault"),
        (lambda: rds.describe_db_proxy_endpoints(DBProxyEndpointName="nowhere"), "DBProxyEndpointNotFoundFault"),
        (lambda: rds.delete_db_proxy_endpoint(DBProxyEndpointName="nowhere"), "DBProxyEndpointNotFoundFault"),
    ):  # fmt: skip
        with pytest.raises(ClientError, match=error):
            call()
    rds.modify_db_proxy_endpoint(DBProxyEndpointName="writes", NewDBProxyEndpointName="rw")
    rds.delete_db_proxy_endpoint(DBProxyEndpointName="Reads")
    databases.eventually(lambda: [each["DBProxyEndpointName"] for each in _endpoints(databases, "many")] == ["rw"])
    databases.rds.delete_db_proxy(DBProxyName="many")


def _endpoints(databases: Any, name: str) -> list[dict[str, Any]]:
    return list(databases.rds.describe_db_proxy_endpoints(DBProxyName=name)["DBProxyEndpoints"])
