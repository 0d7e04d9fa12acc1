"""MariaDB servers as people have them: roles beside users, passwords that have expired."""

import pytest

from tests.integration.rdsadmin import as_rdsadmin
from tests.integration.rotation.passwords import Passwords


@pytest.fixture
def arn(make_instance) -> str:
    made: str = make_instance("mariadb")
    return made


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
