"""Inspection of a database before a run."""

from dataclasses import replace

import pytest

from rdsiam.onboarding.inspection import unready
from tests.unit.databases import ORDERS

#: Statuses of RDS's list in which a database works, or does so again within a minute, and statuses that are unknown.
WORKS = [
    "available", "backing-up", "backtracking", "configuring-enhanced-monitoring", "configuring-iam-database-auth",
    "configuring-log-exports", "configuring-something-new", "failing-over", "maintenance", "modifying", "promoting",
    "rebooting", "renaming", "resetting-master-credentials", "scaling-compute", "storage-config-upgrade",
    "storage-initialization", "storage-optimization", "update-iam-db-auth", "upgrading", "of-a-later-year",
]  # fmt: skip
DOWN = [
    "cloning-failed", "creating", "delete-precheck", "deleting", "failed", "inaccessible-encryption-credentials",
    "inaccessible-encryption-credentials-recoverable", "incompatible-network", "incompatible-option-group",
    "incompatible-parameters", "incompatible-restore", "insufficient-capacity", "migration-failed", "restore-error",
    "starting", "stopped", "stopping", "storage-full",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["instance", "cluster"])
@pytest.mark.parametrize("status", WORKS)
def test_a_database_is_worked_with_unless_its_status_rules_that_out(status, kind):
    assert unready(replace(ORDERS, status=status, kind=kind)) == ""


@pytest.mark.parametrize("kind", ["instance", "cluster"])
@pytest.mark.parametrize("status", DOWN)
def test_a_database_that_nothing_can_connect_to_is_waited_for(status, kind):
    assert status in unready(replace(ORDERS, status=status, kind=kind))


@pytest.mark.parametrize("status", ["available", "modifying", "storage-optimization"])
def test_a_database_without_an_endpoint_is_waited_for(status):
    assert unready(replace(ORDERS, status=status, host=None)) != ""


def test_a_cluster_without_a_writer_waits_for_that_instance():
    assert "no instance yet that is its writer" in unready(replace(ORDERS, kind="cluster", host=None))
