"""Facts from rows of PostgreSQL's catalogs, without a server: memberships, administrators, replication."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rdsiam.engines.facts import AccountFacts
from rdsiam.engines.postgres import audit
from rdsiam.engines.postgres.catalog import is_system
from rdsiam.engines.postgres.lockout import MembershipRow
from tests.unit.engines.test_facts import check_facts

NOW = "2026-01-02T03:04:05Z"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def role(name: str, login: bool = True, createrole: bool = False) -> tuple[Any, ...]:
    return (name, login, False, createrole, False, False, False, 0, 0)


def member(group: str, of: str, admin: bool = False, inherit: bool = True, acts: bool = True) -> MembershipRow:
    return group, of, admin, inherit, acts


def postgres(roles: list[tuple[Any, ...]], *edges: MembershipRow) -> dict[str, AccountFacts]:
    return {account.name: account for account in audit.accounts(roles, edges, "boss", NOW)}


def test_the_shortest_path_to_rds_iam_is_reported():
    edges = [member("long", "u"), member("longer", "long"), member("short", "u"), member("short", "longer")]
    facts = postgres([role("u")], *edges, member("rds_iam", "short"))["u"]
    assert facts.iam_through == ("short",)


def test_only_the_beginning_of_a_very_long_path_to_rds_iam_is_reported():
    chain = [member(f"r{n}", f"r{n + 1}") for n in range(5000)]
    facts = postgres([role(f"r{n}") for n in range(5001)], member("rds_iam", "r0"), *chain)
    assert all(account.iam for account in facts.values())
    assert facts["r5000"].iam_through[:2] == ("r4999", "r4998")
    assert max(len(account.iam_through) for account in facts.values()) == 20


def test_thousands_of_roles_with_createrole_are_administrators():
    roles = [role(f"r{n}", createrole=True) for n in range(5000)]
    assert all(account.administrator for account in postgres(roles, *(member("g", row[0]) for row in roles)).values())


def test_admin_only_memberships_do_not_make_the_master_an_iam_user():
    only_admin = {"admin": True, "inherit": False, "acts": False}
    edges = [member("rds_iam", "boss", **only_admin), member("rds_iam", "app"), member("app", "boss", **only_admin)]
    facts = postgres([role("boss"), role("app")], *edges)
    assert (facts["boss"].iam, facts["boss"].member_of) == (False, ())
    assert postgres([role("boss"), role("app")], *edges, member("app", "boss"))["boss"].iam_through == ("app",)


def test_an_admin_only_membership_makes_another_administrator_an_iam_user():
    edges = [member("rds_iam", "app"), member("app", "second", admin=True, inherit=False, acts=False)]
    assert postgres([role("second"), role("app")], *edges)["second"].iam_through == ("app",)


def test_members_of_rds_superuser_are_not_replication_users():
    edges = [
        member("rds_replication", "rds_superuser"),
        member("rds_superuser", "boss"),
        member("rds_replication", "dms"),
    ]
    facts = postgres([role("boss"), role("dms")], *edges)
    assert (facts["boss"].replication, facts["dms"].replication) == (False, True)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12), st.lists(NAMES, unique=True, max_size=8))
def test_every_login_has_facts_whatever_the_memberships(edges, names):
    memberships = [member(group, of) for group, of in edges]
    facts = postgres([role(name) for name in names], *memberships)
    assert set(facts) == {name for name in names if not is_system(name, True)}
    assert all(account == AccountFacts.from_json(account.to_json()) for account in facts.values())


def test_facts_without_defaults_are_complete():
    check_facts(postgres([role("u")])["u"])
