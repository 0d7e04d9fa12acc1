"""Memberships that are granted for a moment and ended, and the authority for changes of roles, by version."""

from dataclasses import replace
from typing import Any

import pytest

from rdsiam.core.changes import Refusal, Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.postgres.databases import ServerDatabase
from rdsiam.engines.postgres.difference import difference
from rdsiam.engines.postgres.lockout import IAM_ROLE, Membership
from rdsiam.engines.postgres.memberships import acting_for, leave, remedy_to_act
from rdsiam.engines.postgres.privilege_changes import change_privileges
from rdsiam.engines.postgres.privileges import PrivilegeChange
from rdsiam.engines.postgres.snapshot import Role, Snapshot
from rdsiam.engines.protocols import DesiredState
from rdsiam.engines.statements import Statement
from rdsiam.state.record import Ownership

OLD, NEW = 150000, 160000
ORDINARY = Role(True, False, False, False, -1)
ROLES = {
    "boss": replace(ORDINARY, createrole=True),
    MANAGER: replace(ORDINARY, createrole=True),
    AUDITOR: ORDINARY,
    "app": ORDINARY,
    "root": replace(ORDINARY, superuser=True),
    "copier": replace(ORDINARY, replication=True),
    "shop_readonly": replace(ORDINARY, login=False),
    "shop_owner": replace(ORDINARY, login=False),
}
SHOP = ServerDatabase("shop", "boss", accepts=True, template=False, limit=-1, manager=True, auditor=True)
#: The manager and the auditor as onboarding leaves them.
READY = (
    Membership(IAM_ROLE, MANAGER, True, True, True, "rdsadmin"),
    Membership("pg_signal_backend", MANAGER, False, True, True, "rdsadmin"),
    Membership(IAM_ROLE, AUDITOR, False, True, True, MANAGER),
)


def edge(
    group: str, member: str, grantor: str, admin: bool = False, inherit: bool = True, set: bool = True
) -> Membership:
    return Membership(group, member, admin, inherit, set, grantor)


def snapshot(version: int, *edges: Membership, **changed: Any) -> Snapshot:
    empty: dict[str, Any] = {
        "identifier": "orders", "has_master_login": True, "on_server": {"shop": SHOP}, "named": frozenset(),
        "settings": {}, "administrators": frozenset(), "busy": frozenset(), "mark": None,
    }  # fmt: skip
    return Snapshot(
        entry_database="postgres", master="boss", version=version, roles=ROLES, memberships=edges, **empty | changed
    )  # fmt: skip


@pytest.mark.parametrize(
    ("edges", "grant", "revoke"),
    [
        ([], ' WITH INHERIT TRUE; ', '; REVOKE "app" FROM "boss"'),
        (
            [edge("app", "boss", "rdsadmin", admin=True, inherit=False, set=False)],
            ' WITH INHERIT TRUE GRANTED BY "boss"; ',
            '; REVOKE "app" FROM "boss" GRANTED BY "boss"',
        ),
        (
            [
                edge("app", "boss", "rdsadmin", admin=True, inherit=False, set=False),
                edge("app", "boss", "boss", inherit=False),
            ],
            ' WITH INHERIT TRUE GRANTED BY "boss"; ',
            '; REVOKE INHERIT OPTION FOR "app" FROM "boss" GRANTED BY "boss"',
        ),
        (
            [edge("app", "boss", "rdsadmin", inherit=False)],
            ' WITH INHERIT TRUE; ',
            '; REVOKE INHERIT OPTION FOR "app" FROM "boss"',
        ),
    ],
    ids=["none", "ADMIN", "ADMIN and SET of its own", "SET by RDS"],
)  # fmt: skip
def test_a_membership_for_a_moment_leaves_those_that_exist_as_they_are(edges, grant, revoke):
    assert acting_for(snapshot(NEW, *edges), "app", "boss") == (f'GRANT "app" TO "boss"{grant}', revoke)


def test_whoever_inherits_directly_or_not_needs_no_membership():
    assert acting_for(snapshot(NEW, edge("app", "boss", "x")), "app", "boss") == ("", "")
    assert acting_for(snapshot(NEW, edge("app", "team", "x"), edge("team", "boss", "x")), "app", "boss") == ("", "")
    without = snapshot(NEW, edge("app", "team", "x", inherit=False), edge("team", "boss", "x"))
    assert acting_for(without, "app", "boss") != ("", "")


def test_before_16_the_manager_changes_all_but_superusers_and_roles_that_replicate():
    old, new = snapshot(OLD), snapshot(NEW)
    assert {name: old.authority_over(name) for name in ("app", "boss", "root", "copier")} == {
        "app": "manager", "boss": "manager", "root": "master", "copier": "master",
    }  # fmt: skip
    assert new.authority_over("app") == "master"
    assert snapshot(NEW, edge("app", MANAGER, "rdsadmin", admin=True)).authority_over("app") == "manager"


def test_no_remedy_gives_the_master_a_full_membership():
    assert "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" in remedy_to_act(snapshot(NEW), "app", "boss")
    assert "GRANT" not in remedy_to_act(snapshot(OLD), "app", "boss")
    assert 'REASSIGN OWNED BY "root" TO "boss"' in remedy_to_act(snapshot(NEW), "root", "boss")


def ending(statements: list[Statement]) -> list[tuple[str, str]]:
    return [(each.authority, each.statement) for each in statements]


def test_each_membership_is_ended_by_who_may_end_it():
    edges = [edge("shop_readonly", "app", grantor) for grantor in (MANAGER, "rdsadmin", "boss", "another")]
    revoke = 'REVOKE "shop_readonly" FROM "app"'
    statements = leave(snapshot(NEW, *edges), "shop_readonly", "app")
    assert ending(statements) == [
        ("manager", revoke),
        ("master", revoke),
        ("master", f'{revoke} GRANTED BY "boss"'),
        ("master", f'{revoke} GRANTED BY "another"'),
    ]
    assert all(isinstance(each.denied, Unreached) and not each.denied.retry for each in statements)
    assert ending(leave(snapshot(OLD, edges[1]), "shop_readonly", "app")) == [("manager", revoke)]
    assert leave(snapshot(NEW), "shop_readonly", "app") == []


@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_the_manager_created_it_administers_again_from_16_on(version):
    created: dict[str, Ownership] = dict.fromkeys((MANAGER, AUDITOR, "shop_owner", "app", "dropped"), "created")
    member = edge("shop_owner", MANAGER, "rdsadmin")
    desired = DesiredState((), created | {"reader": "adopted"})
    statements = [s for s in difference(snapshot(version, *READY, member), desired) if s.authority == "master"]
    if version == OLD:
        assert statements == []
        return
    options = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
    assert [each.statement for each in statements if each.kind == "grant"] == [
        f'GRANT "app" TO "{MANAGER}" {options}',
        f'GRANT "{AUDITOR}" TO "{MANAGER}" {options}',
        f'GRANT "shop_owner" TO "{MANAGER}" WITH ADMIN TRUE',
    ]
    for each in statements:
        if each.kind == "grant":
            assert isinstance(each.denied, Refusal)
            assert each.statement in each.denied.remedy


@pytest.mark.parametrize(
    ("version", "edges", "owner", "authority", "doubtful"),
    [
        (OLD, [], "app", "manager", False),
        (OLD, [], "root", "master", True),
        (NEW, [], "app", "master", True),
        (NEW, [edge("rds_superuser", "boss", "rdsadmin")], "app", "master", False),
        (NEW, [edge("rds_superuser", "boss", "rdsadmin")], "root", "master", True),
        (NEW, [edge("app", "boss", "x", admin=True, inherit=False, set=False)], "app", "master", False),
        (NEW, [edge("app", MANAGER, "x", admin=True, inherit=False, set=False)], "app", "manager", False),
    ],
)
def test_a_statement_for_an_owner_may_be_denied_and_a_plan_says_which_is_likely_to_be(
    version, edges, owner, authority, doubtful
):
    change = PrivilegeChange("shop", owner, "shop_readonly", "table", ("SELECT",), (("public", "t"),))
    (statement,) = change_privileges(snapshot(version, *edges), change)
    assert (statement.authority, statement.doubtful) == (authority, doubtful)
    assert isinstance(statement.denied, Unreached)
    assert statement.denied.what == f"objects of {owner} in shop"
    own = replace(change, owner="boss")
    (statement,) = change_privileges(snapshot(version, *edges), own)
    assert (statement.authority, statement.denied) == ("master", None)
