"""The statements for thousands of schemas are made in portions, of which each leaves a state to continue from."""

import pytest

from rdsiam.engines.mysql import engine
from rdsiam.engines.mysql.engine import Mysql
from rdsiam.engines.statements import Statement

CREATED = [Statement("create-user", user, f"CREATE USER {user}") for user in ("app", "bi")]
GRANTS = [Statement("grant", user, f"GRANT SELECT ON `s{n}`.* TO {user}") for user in ("app", "bi") for n in range(7)]
LEAVING = [Statement("disable-user", "old", "ALTER USER old ACCOUNT LOCK"), Statement("revoke", "old", "REVOKE x")]
ALL = [CREATED[0], *GRANTS[:7], CREATED[1], *GRANTS[7:], *LEAVING]


@pytest.mark.parametrize("most", [1, 4, 5, 14, 15, 100])
def test_portions_make_all_statements_in_their_order(monkeypatch, most):
    monkeypatch.setattr(engine, "_MOST_PRIVILEGES", most)
    left, made = list(ALL), []
    while left:
        portion = Mysql().portion(left)
        assert 0 < len([each for each in portion if each.kind in {"grant", "revoke"}]) <= most
        assert [each for each in left if each in portion] == portion
        made += portion
        left = [each for each in left if each not in portion]
    assert sorted(made, key=str) == sorted(ALL, key=str)
    assert [each for each in made if each.kind in {"grant", "revoke"}] == [*GRANTS, LEAVING[1]]


def test_accounts_are_created_and_locked_in_the_first_portion(monkeypatch):
    monkeypatch.setattr(engine, "_MOST_PRIVILEGES", 3)
    assert {*CREATED, LEAVING[0]} < set(Mysql().portion(ALL))


def test_equal_statements_are_no_matter(monkeypatch):
    monkeypatch.setattr(engine, "_MOST_PRIVILEGES", 1)
    twice = [GRANTS[0], Statement(GRANTS[0].kind, GRANTS[0].target, GRANTS[0].statement)]
    assert Mysql().portion(twice) == twice[:1]
