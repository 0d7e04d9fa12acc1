"""The audit's procedure for each version of MySQL and MariaDB, and the mandatory roles that it returns."""

import re

import pytest

from rdsiam.engines.mysql import audit, audit_procedure
from rdsiam.engines.mysql.grants import server


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("", []),
        ("one", [("one", "%")]),
        ("one,two@localhost", [("one", "%"), ("two", "localhost")]),
        (" `one`@`%` , 'two'@'10.%' ", [("one", "%"), ("two", "10.%")]),
        ("`a,b@c`@`%`,`back``tick`", [("a,b@c", "%"), ("back`tick", "%")]),
    ],
)
def test_mandatory_roles_are_parsed(text, roles):
    assert audit.mandatory_roles(text) == frozenset(roles)


@pytest.mark.parametrize(
    "version", ["5.7.44-log", "8.0.36", "8.4.3", "5.7.mysql_aurora.2.12", "8.0.mysql_aurora.3.04.0"]
)
def test_the_procedure_for_mysql_uses_only_tables_of_that_version(version):
    text = audit_procedure.body(server(version))
    modern = not version.startswith("5.")
    assert ("FROM mysql.role_edges" in text) is modern
    assert ("User_attributes" in text) is modern
    assert ("FROM mysql.global_grants" in text) is modern
    assert ("@@mandatory_roles" in text) is modern
    assert ("mysql.proc " in text) is not modern
    assert "FROM mysql.global_priv" not in text
    assert text.count(";") == audit._RESULTS + 1  # and a setting
    assert "{" not in text.replace("{40}", "").replace("{16}", "")


def test_the_procedure_returns_no_hash_but_whether_it_exists_and_is_possible():
    for text in (
        audit_procedure.body(server("10.11.6-MariaDB")),
        audit_procedure.body(server("8.0.36")),
        audit_procedure.body(server("5.7.44")),
    ):
        columns = text.split("SELECT User, Host, plugin,")[1].split("FROM (")[0]
        assert "hash" in columns
        assert not re.search(r"(^|,)\s*(hash|authentication_string)\s*(,|$)", columns)
