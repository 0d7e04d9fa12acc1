"""MariaDB servers as people have them: many schemas, roles beside users, passwords that have expired."""

import pytest

from tests.integration.rotation.passwords import Passwords
from tests.known_faults.rdsadmin import as_rdsadmin

#: Bytes that the result of a step may have: a limit of Lambda's durable functions.
STEP = 256 * 1024


@pytest.fixture
def arn(make_instance) -> str:
    made: str = make_instance("mariadb")
    return made


@pytest.mark.known_fault("case 10", "the result of a step grows with the number of schemas (issue 14 B)")
def test_a_schema_for_each_tenant_fits_into_the_results_of_steps(account, arn):
    with as_rdsadmin(account, arn) as another:
        for number in range(1500):
            another.run(f"CREATE DATABASE tenant_{number}")
    levels = {"app": "readwrite", "bi": "readonly"}
    users = [{"name": name, "privileges": level, "on": "*"} for name, level in levels.items()]
    account.declare(arn.rpartition(":")[2], *users)
    plan = account.onboard(arn, plan=True)
    assert len(str(plan)) < STEP
    account.onboard(arn)
    assert account.onboard(arn)["status"] == "unchanged"


@pytest.mark.known_fault("case 12", "a role is taken for an account (issue 14 C)")
def test_a_role_of_the_users_name_is_told_from_a_user(account, arn):
    with as_rdsadmin(account, arn) as another:
        another.run("CREATE ROLE reporting")
        another.run("GRANT SELECT ON shop.* TO reporting")
    user = {"name": "reporting", "privileges": "readonly", "on": ["shop"]}
    account.declare(arn.rpartition(":")[2], user)
    first = account.onboard(arn)
    account.declare(arn.rpartition(":")[2], user | {"adopt": True})
    adopted = account.onboard(arn)
    if first["status"] != "onboarded":
        assert "role" in first["reason"]
        assert adopted["status"] == "refused"
        assert "role" in adopted["reason"]


@pytest.mark.known_fault("case 14", "an expired password is not rotated (issue 14 E)")
def test_an_expired_password_is_what_a_rotation_mends(account, arn):
    passwords = Passwords(account, arn)
    secret = passwords.make("etl", {"Tags": [{"Key": "rdsiam:managed", "Value": "true"}]})
    with as_rdsadmin(account, arn) as another:
        another.run("ALTER USER 'etl'@'%' PASSWORD EXPIRE")
    version = passwords.rotate(secret)
    assert passwords.is_current(secret, version, 25), passwords.log_line(secret)
