"""Names of accounts and schemas stay names in statements, commands and entries of remediations."""

import re
import shlex
from dataclasses import replace

import psycopg.sql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import parse
from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.mysql.remediation import MysqlRemediationSql
from rdsiam.errors import Refused
from tests.audited_fleet import (
    MYSQL,
    PG_CLEAN,
    evaluate,
    pg,
    secret,
    with_accounts,
)

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40)


@given(name=TEXT, host=TEXT)
def test_names_in_mysql_statements_are_quoted_for_any_sql_mode(name, host):
    (statement,) = MysqlRemediationSql().lock(AccountFacts(name=name, host=host))
    for backslashes in (True, False):
        texts, rest = _read_literals(statement, backslashes)
        assert rest == "ALTER USER @ ACCOUNT LOCK;"  # whatever the name, the statement stays this one
        if backslashes:
            assert texts == [name, host]


def _read_literals(statement: str, backslashes: bool) -> tuple[list[str], str]:
    """Read a statement as MySQL does: its literals, and what stands outside of them."""
    texts, rest, index = [], "", 0
    special = {"0": "\0", "n": "\n", "r": "\r", "Z": "\x1a"}
    while index < len(statement):
        if statement[index] != "'":
            rest += statement[index]
            index += 1
            continue
        index += 1
        text = ""
        while True:
            char = statement[index]
            if char == "'" and statement[index + 1 : index + 2] == "'":
                text, index = text + "'", index + 2
            elif char == "'":
                index += 1
                break
            elif char == "\\" and backslashes:
                text, index = text + special.get(statement[index + 1], statement[index + 1]), index + 2
            else:
                text, index = text + char, index + 1
        texts.append(text)
    return texts, rest


@pytest.mark.parametrize("schema", ["a\\", "a\\`; DROP TABLE x; -- ", "\\"])
def test_a_schema_name_that_a_client_would_misread_gets_no_statement(schema):
    with pytest.raises(Refused):
        MysqlRemediationSql().create_database(schema)


@given(name=TEXT)
def test_names_in_statements_of_postgresql_are_quoted_by_the_driver(name):
    found = evaluate(facts=with_accounts(PG_CLEAN, pg(name, iam=False)))
    quoted = psycopg.sql.Identifier(name).as_string()
    for one in found:
        if one.kind == "user-without-iam":
            assert f"ALTER ROLE {quoted} NOLOGIN;" in {step.text for step in one.remediation}


@given(name=TEXT)
def test_hostile_names_stay_words_of_one_command(name):
    held = replace(secret("boss"), arn=name, rotation_enabled=True, pending_stuck=True, pending_version=name)
    for one in evaluate(MYSQL, secrets=[held]):
        for step in one.remediation:
            words = shlex.split(step.text)
            assert words[:2] == ["aws", "secretsmanager"]
            assert name in words


@given(name=TEXT)
def test_entries_of_access_yaml_are_offered_only_for_valid_names(name):
    for one in evaluate(facts=with_accounts(PG_CLEAN, pg(name))):
        for step in one.remediation:
            if step.language == "access":
                entry = parse("version: 1\ndatabases:\n" + step.text + "\n").databases[0]
                assert [user.name for user in entry.users] == [name]
                assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name)
