"""The doctor says first if the database doesn't run, and blames nothing else for it."""

from dataclasses import replace

import pytest

from tests.unit.doctor.cases import (
    CLUSTER,
    ENDPOINTS,
    case_of,
    failed_login,
    rows,
)

pytestmark = pytest.mark.usefixtures("server")


@pytest.mark.parametrize(
    ("kind", "status", "fix"),
    [
        ("instance", "stopped", "aws rds start-db-instance --db-instance-identifier orders"),
        ("replica", "stopped", "aws rds start-db-instance --db-instance-identifier orders-copy"),
        ("cluster", "stopped", "aws rds start-db-cluster --db-cluster-identifier shop"),
        ("member", "stopped", "aws rds start-db-cluster --db-cluster-identifier shop"),
        ("instance", "stopping", "then aws rds start-db-instance"),
        ("cluster", "stopping", "then aws rds start-db-cluster"),
        ("instance", "starting", "aws rds wait db-instance-available --db-instance-identifier orders"),
        ("cluster", "starting", "aws rds wait db-cluster-available --db-cluster-identifier shop"),
        ("member", "creating", "aws rds wait db-instance-available --db-instance-identifier shop-2"),
        ("instance", "creating", "aws rds wait db-instance-available"),
        ("proxy", "creating", "aws rds describe-db-proxies --db-proxy-name front"),
        ("instance", "deleting", "name another database"),
        ("instance", "delete-precheck", "name another database"),
        ("instance", "failed", "aws rds restore-db-instance-to-point-in-time --source-db-instance-identifier orders"),
        ("cluster", "failed", "aws rds restore-db-cluster-to-point-in-time --source-db-cluster-identifier shop"),
        ("cluster", "cloning-failed", "aws rds describe-events --source-type db-cluster --source-identifier shop"),
        ("cluster", "migration-failed", "--source-type db-cluster"),
        ("instance", "restore-error", "aws rds restore-db-instance-to-point-in-time"),
        ("instance", "incompatible-restore", "aws rds restore-db-instance-to-point-in-time"),
        ("instance", "incompatible-network", "aws rds describe-events --source-type db-instance"),
        ("instance", "incompatible-option-group", "aws rds describe-events"),
        ("instance", "incompatible-parameters", "aws rds describe-events"),
        ("proxy", "incompatible-network", "aws rds describe-events --source-type db-proxy --source-identifier front"),
        ("proxy", "insufficient-resource-limits", "aws rds describe-events --source-type db-proxy"),
        ("proxy", "suspended", "aws rds describe-db-proxies"),
        ("proxy", "deleting", "name another database"),
        ("instance", "inaccessible-encryption-credentials", "enable its KMS key"),
        ("instance", "inaccessible-encryption-credentials-recoverable", "then aws rds start-db-instance"),
        ("cluster", "inaccessible-encryption-credentials-recoverable", "then aws rds start-db-cluster"),
        ("instance", "insufficient-capacity", "aws rds describe-events"),
        ("instance", "storage-full", "--allocated-storage"),
    ],
)
def test_a_database_that_does_not_run_is_reported_first_and_nothing_else_is_blamed(server, kind, status, fix):
    server["error"] = failed_login("no route to host", "port")
    found = rows(case_of(replace(ENDPOINTS[kind], status=status, host="localhost", port=1)))
    first, *others = found.values()
    assert (first.check, first.state) == ("database", "FAIL")
    assert status in first.detail
    assert fix in first.fix
    assert {row.state for row in others} == {"UNKNOWN"}
    assert all(row.skipped for row in others)
    assert server["tokens"] == []


@pytest.mark.parametrize(
    "status",
    ["modifying", "rebooting", "maintenance", "upgrading", "renaming", "resetting-master-credentials", "promoting",
     "configuring-iam-database-auth", "moving-to-vpc", "converting-to-vpc"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_database_in_transition_is_named_for_what_its_server_does_not_answer(server, kind, status):
    server["error"] = failed_login("connection refused", "port")
    found = rows(case_of(replace(ENDPOINTS[kind], status=status, host="no-such-host.invalid")))
    assert found["database"].state == "UNKNOWN"
    assert status in found["database"].detail
    for check in ("name", "port", "TLS", "login"):
        assert found[check].state == "UNKNOWN"
    assert status in found["name"].detail


@pytest.mark.parametrize(
    "status",
    ["available", "backing-up", "storage-optimization", "storage-config-upgrade", "backtracking",
     "storage-initialization", "a-status-of-next-year"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_database_that_runs_is_ok_whatever_rds_does_with_it(kind, status):
    assert rows(case_of(replace(ENDPOINTS[kind], status=status)))["database"].state == "OK"


def test_a_cluster_without_an_instance_is_given_one():
    row = rows(case_of(replace(CLUSTER, host=None)))["database"]
    assert row.state == "FAIL"
    assert "the cluster has no instance" in row.detail
    assert "aws rds create-db-instance --db-cluster-identifier shop" in row.fix
