"""The database of a secret, from what Describe says of instances and clusters."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.access.model import parse
from rdsiam.aws.secrets.value import Secret
from rdsiam.errors import DatabaseNotReady, Refused
from rdsiam.rotation.targets import Target, Targets
from rdsiam.state.record import Record, SecretRecord
from tests.unit.aws.test_rds import cluster, instance


class Rds:
    """Describe, over what there is."""

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there = there

    def _all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.there if f"DB{kind}Arn" in each]

    def _one(self, kind: str, identifier: str) -> dict[str, Any]:
        found = [each for each in self._all(kind) if each[f"DB{kind}Identifier"] == identifier]
        if not found:
            raise ClientError({"Error": {"Code": f"DB{kind}NotFoundFault", "Message": "none"}}, "Describe")
        return {f"DB{kind}s": found}

    def describe_db_instances(self, DBInstanceIdentifier: str) -> dict[str, Any]:  # noqa: N803  AWS's
        return self._one("Instance", DBInstanceIdentifier)

    def describe_db_clusters(self, DBClusterIdentifier: str) -> dict[str, Any]:  # noqa: N803  AWS's
        return self._one("Cluster", DBClusterIdentifier)

    def get_paginator(self, operation: str) -> Any:
        kind = {"describe_db_instances": "Instance", "describe_db_clusters": "Cluster"}[operation]
        pages = [{f"DB{kind}s": [each]} for each in self._all(kind)]
        return type("Pages", (), {"paginate": lambda _: pages})()


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"


class Everywhere:
    """An inventory that records the secret for the user `app` of whatever database it is asked for."""

    def __init__(self, *there: dict[str, Any], **fields: Any) -> None:
        ids = {
            each[f"DB{kind}Arn"]: each[identifier]
            for each in there
            for kind, identifier in _IDS
            if f"DB{kind}Arn" in each
        }
        self.asked: list[str] = []
        self._ids, self._fields = ids, fields

    def get(self, arn: str) -> Record | None:
        self.asked.append(arn)
        record = SecretRecord(
            **{"resource_id": self._ids.get(arn, "db-NONE"), "arn": ARN, "scheme": "single"} | self._fields
        )
        return Record(record.resource_id, secrets={"app": record}) if arn in self._ids else None


_IDS = (("Instance", "DbiResourceId"), ("Cluster", "DbClusterResourceId"))


def targets(*there: dict[str, Any], **fields: Any) -> Targets:
    return Targets(Rds(*there), Everywhere(*there, **fields))  # type: ignore[arg-type]


def found(at: Targets, **keys: Any) -> Target:
    return at.find(ARN, secret(**keys))


def secret(**keys: Any) -> Secret:
    return Secret(**{"engine": "postgres", "user": "app", "password": "p"} | keys)


ORDERS, COPY = instance("orders"), instance("copy", ReadReplicaSourceDBInstanceIdentifier="orders")
MEMBER = instance("one", DBClusterIdentifier="fleet")
FLEET = cluster("fleet", "one")
FOLLOWER = cluster("follower", "two", ReplicationSourceIdentifier="fleet")
TARGETS = targets(ORDERS, COPY, MEMBER, FLEET, FOLLOWER, instance("other", Engine="oracle-ee"))


@pytest.mark.parametrize(
    ("keys", "identifier"),
    [
        ({"instance": "orders"}, "orders"),
        ({"host": "orders.x.eu-west-1.rds.amazonaws.com"}, "orders"),
        ({"host": "ORDERS.x.eu-west-1.rds.amazonaws.com", "port": 5432}, "orders"),
        ({"cluster": "fleet"}, "fleet"),
        ({"host": "fleet.cluster-x.eu-west-1.rds.amazonaws.com"}, "fleet"),
    ],
)
def test_a_secret_is_of_the_database_that_describe_returns(keys, identifier):
    target = found(TARGETS, **keys)
    assert (target.database.identifier, target.user, target.record.arn) == (identifier, "app", ARN)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"instance": "copy"}, "a replica of orders"),
        ({"host": "copy.x.eu-west-1.rds.amazonaws.com"}, "a replica of orders"),
        ({"cluster": "follower"}, "a replica of arn:.*:cluster:fleet"),
        ({"instance": "one"}, "a member of cluster fleet.*name the cluster"),
        ({"instance": "other"}, "runs oracle-ee"),
        ({"instance": "missing"}, "no endpoint of an instance or cluster"),
        ({"host": "orders.evil.example"}, "no endpoint of an instance or cluster"),
        ({"host": "orders.x.eu-west-1.rds.amazonaws.com.evil.example"}, "no endpoint of an instance or cluster"),
        ({"host": "orders.y.eu-west-1.rds.amazonaws.com"}, "not those of orders"),
        ({"instance": "orders", "port": 1, "host": "orders.x.eu-west-1.rds.amazonaws.com"}, "not those of orders"),
        ({"host": "fleet.cluster-ro-x.eu-west-1.rds.amazonaws.com"}, "a reader"),
        ({"instance": "orders", "engine": "mysql"}, "names mysql, but orders runs postgres"),
    ],
)
def test_no_password_is_sent_to_replicas_or_to_hosts_that_describe_does_not_return(keys, why):
    with pytest.raises(Refused, match=why):
        found(TARGETS, **keys)


@pytest.mark.parametrize("user", ["etl", "ann@corp", "svc_clone"])
def test_the_advice_about_an_undeclared_rotation_is_a_line_that_access_yaml_accepts(user):
    with pytest.raises(Refused) as refused:
        found(targets(ORDERS, arn=f"{ARN}x"), instance="orders", user=user, master_arn=ARN.replace("app", "boss"))
    line = refused.value.remedy.partition("`databases`: ")[2]
    file = parse(f"version: 1\ndatabases:\n{line}\n")
    assert file.databases[0].rotate is not None
    assert file.databases[0].rotate.users == [user.removesuffix("_clone")]


@pytest.mark.parametrize("user", ["rdsiam_manager", "rdsiam_auditor", "rdsadmin", "rdsadmin_clone", "a\nb"])
def test_for_a_user_whose_rotation_access_yaml_refuses_there_is_no_line_to_add(user):
    with pytest.raises(Refused, match="can declare no rotation of this user") as refused:
        found(targets(ORDERS, arn=f"{ARN}x"), instance="orders", user=user)
    assert "`databases`" not in str(refused.value)


def test_a_host_name_outside_rds_is_compared_with_all_endpoints():
    local = instance("local", Endpoint={"Address": "localhost", "Port": 5432})
    copy = instance(
        "copied", Endpoint={"Address": "localhost", "Port": 5433}, ReadReplicaSourceDBInstanceIdentifier="l"
    )
    here = targets(MEMBER, instance("other", Engine="oracle-ee"), local, copy, FLEET)
    assert found(here, host="localhost", port=5432).database.identifier == "local"
    with pytest.raises(Refused, match="a replica of l"):
        found(here, host="localhost", port=5433)


@pytest.mark.parametrize("engine", ["neptune", "docdb"])
def test_clusters_of_other_engines_are_refused_and_left_out_of_lists(engine):
    here = targets(cluster("graph", "g", Engine=engine))
    with pytest.raises(Refused, match=f"runs {engine}"):
        found(here, cluster="graph")
    with pytest.raises(Refused, match="no endpoint"):
        found(here, host="somewhere.example")


def test_a_cluster_that_has_no_instance_yet_is_not_ready():
    with pytest.raises(DatabaseNotReady):
        found(targets(cluster("empty")), cluster="empty")


@pytest.mark.parametrize(
    ("recorded", "keys", "why"),
    [
        ({"arn": ARN.replace("AbCdEf", "GhIjKl")}, {}, "does not declare that rotation"),
        ({"arn": None, "state": "initial"}, {}, "does not declare that rotation"),
        ({"state": "ended"}, {}, "does not declare that rotation"),
        ({"state": "initial"}, {}, "not set in the database yet"),
        ({"resource_id": "db-BEFORE"}, {}, "recorded for another database that was named orders"),
        ({}, {"user": "payments"}, "for the user payments, but it is recorded for app"),
        ({}, {"user": "app_clone"}, "for the user app_clone, but it is recorded for app"),
        ({}, {"master_arn": ARN}, "is recorded for app|no administrator"),
        ({"scheme": "alternating", "administrator": ARN}, {}, "masterarn of the secret's value is missing"),
        ({"scheme": "alternating", "administrator": ARN}, {"master_arn": ARN[:-7]}, "masterarn of the secret's value"),
        ({}, {"instance": "second"}, "does not declare that rotation"),
    ],
    ids=str,
)  # fmt: skip
def test_a_secret_that_is_not_recorded_for_exactly_this_login_is_refused(recorded, keys, why):
    there = (instance("orders"), instance("second"))
    here = targets(*there)
    here._inventory = Everywhere(there[0], **recorded)  # type: ignore[assignment]
    with pytest.raises(Refused, match=why):
        found(here, **{"instance": "orders"} | keys)


def test_of_two_users_that_take_turns_either_name_is_the_recorded_users():
    here = targets(ORDERS, scheme="alternating", administrator=ARN)
    for user in ("app", "app_clone"):
        assert found(here, instance="orders", user=user, master_arn=ARN).user == "app"


@pytest.mark.parametrize(
    ("keys", "arn"),
    [
        ({"instance": "ORDERS"}, ORDERS["DBInstanceArn"]),
        ({"host": "orders.x.eu-west-1.rds.amazonaws.com"}, ORDERS["DBInstanceArn"]),
        ({"cluster": "fleet"}, FLEET["DBClusterArn"]),
        ({"host": "fleet.cluster-x.eu-west-1.rds.amazonaws.com"}, FLEET["DBClusterArn"]),
    ],
)
def test_a_record_is_found_by_the_name_of_the_database_without_asking_rds(keys, arn):
    inventory = Everywhere(ORDERS, FLEET)
    user, record = Targets(None, inventory).recorded(ARN, secret(**keys))  # type: ignore[arg-type]
    assert (user, record.arn, inventory.asked) == ("app", ARN, [arn])
