"""Settings and login rules of PostgreSQL's versions."""

import pytest

from localcloud.databases.servers import postgres_settings
from localcloud.databases.servers.postgres_settings import configuration, default_parameters, login_rules


@pytest.mark.parametrize(
    ("version", "force_ssl", "encryption"),
    [(13, "0", "md5"), (14, "0", "scram-sha-256"), (15, "1", "scram-sha-256"), (18, "1", "scram-sha-256")],
)
def test_default_parameters_are_those_of_rds_for_the_version(version, force_ssl, encryption):
    assert default_parameters(version) == {"rds.force_ssl": force_ssl, "password_encryption": encryption}


@pytest.mark.parametrize(("version", "unknown"), [(13, 2), (15, 2), (16, 1), (17, 1), (18, 0)])
def test_a_version_gets_no_setting_that_it_does_not_know(version, unknown):
    names = {line.partition(" = ")[0] for line in configuration(version, {}).splitlines()}

    assert len({"io_method", "reserved_connections"} - names) == unknown
    assert "shared_buffers" in names


def test_a_value_can_not_end_its_setting():
    text = configuration(18, {"rds.force_ssl": "1'; x = 'y\\"})

    assert text.endswith("rds.force_ssl = '1''; x = ''y\\\\'\n")
    with pytest.raises(ValueError, match="one line"):
        configuration(18, {"rds.force_ssl": "1\nshared_preload_libraries = 'x"})


def test_parameters_that_rds_refuses_do_not_reach_the_server():
    given = {"rds.force_ssl": "0", "password_encryption": "none", "shared_buffers": "1TB"}

    assert postgres_settings.accepted(given) == {"rds.force_ssl": "0"}
    assert postgres_settings.accepted({"password_encryption": "md5"}) == {"password_encryption": "md5"}


def test_rules_take_both_kinds_of_passwords_and_let_iam_users_in_by_token_only():
    rules = login_rules('bo"ss', iam=True, master_first=False).splitlines()

    assert rules.index("local all +rds_iam trust") < rules.index("local all all md5")
    assert "bo" not in "".join(rules)
    assert "local all rdsadmin scram-sha-256" in rules
    assert "trust" not in login_rules("boss", iam=False, master_first=False)


def test_a_master_that_has_to_be_a_member_of_rds_iam_still_logs_in_by_password():
    rules = login_rules('bo"ss', iam=True, master_first=True).splitlines()

    assert rules.index('local all "bo""ss" md5') < rules.index("local all +rds_iam trust")
