"""Advice and explanations of the command."""

import pytest

from rdsiam.doctor.known_errors import explain
from tests.integration.account import until

REGION = "eu-central-1"
HERE = f"{REGION}.rds.amazonaws.com"


@pytest.mark.known_fault("case 24", "the doctor's advice for a cluster is an instance's (issue 14 E)")
def test_the_doctor_of_a_cluster_advises_what_works_on_clusters(account):
    rds = account.cloud.client("rds")
    rds.create_db_cluster(
        DBClusterIdentifier="faults-cluster", Engine="aurora-postgresql", MasterUsername="boss",
        ManageMasterUserPassword=True, DatabaseName="shop",
    )  # fmt: skip
    try:
        member = {"DBInstanceIdentifier": "faults-cluster-1", "DBInstanceClass": "db.r6g.large"}
        rds.create_db_instance(Engine="aurora-postgresql", DBClusterIdentifier="faults-cluster", **member)
        described = until(
            lambda: [
                one
                for one in rds.describe_db_clusters(DBClusterIdentifier="faults-cluster")["DBClusters"]
                if one["Status"] == "available"
            ],
            60,
        )[0]
        said = account.rdsiam("doctor", described["DBClusterArn"], "reader").stdout
    finally:
        rds.delete_db_instance(DBInstanceIdentifier="faults-cluster-1", SkipFinalSnapshot=True)
        rds.delete_db_cluster(DBClusterIdentifier="faults-cluster", SkipFinalSnapshot=True)
    assert "modify-db-instance" not in said, said
    assert "describe-db-instances" not in said, said
    assert "modify-db-cluster" in said, said


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param(
            "PKIX path building failed: unable to find valid certification path to requested target",
            "certificate",
            id="Java: the authority is unknown",
        ),
        pytest.param(
            "This RDS proxy has no credentials for the role app. Check the credentials for this role and try again.",
            "proxy",
            id="RDS Proxy: it knows no such user",
        ),
        pytest.param(
            "The IAM authentication failed for the role app. Check the IAM token for this role and try again.",
            "proxy",
            id="RDS Proxy: the token",
        ),
        pytest.param('FATAL: role "app" is not permitted to log in', "disabled", id="PostgreSQL: NOLOGIN"),
        pytest.param('FATAL: too many connections for role "app"', "connections", id="PostgreSQL: the user's limit"),
    ],
)
@pytest.mark.known_fault("case 33", "errors of logins that nothing explains (issue 14 E)")
def test_what_clients_print_is_explained(text, cause):
    found = explain(text)
    assert found
    assert cause in f"{found[0].cause} {' '.join(found[0].fixes)}"
