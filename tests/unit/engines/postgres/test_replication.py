"""Users that replicate take tokens for that only if the server's parameter says so."""

from typing import Any

import pytest

from rdsiam.access.users import DeclaredUser, Grant
from rdsiam.engines.postgres import replication
from rdsiam.engines.postgres.databases import ServerDatabase
from rdsiam.engines.postgres.lockout import Membership
from rdsiam.engines.postgres.migration import PostgresMigrator
from rdsiam.engines.postgres.snapshot import Role, Snapshot
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused

SHOP = ServerDatabase("shop", "boss", accepts=True, template=False, limit=-1, manager=True, auditor=True)
ORDINARY = Role(login=True, superuser=False, createrole=False, replication=False, connections=-1)
ROLES = {
    "boss": Role(login=True, superuser=False, createrole=True, replication=False, connections=-1),
    "app": ORDINARY,
    "cdc": Role(login=True, superuser=False, createrole=False, replication=True, connections=-1),
    "debezium": ORDINARY,
    "dms": ORDINARY,
    "readers": Role(login=False, superuser=False, createrole=False, replication=False, connections=-1),
    "rds_iam": ORDINARY,
    "rds_replication": ORDINARY,
    "rds_superuser": ORDINARY,
}
EDGES = (
    Membership("rds_replication", "debezium", False, True, True),
    Membership("rds_replication", "readers", False, True, True),
    Membership("readers", "dms", False, True, True),
    Membership("rds_replication", "rds_superuser", True, True, True),
    Membership("rds_superuser", "boss", False, True, True),
    Membership("rds_replication", "app", True, False, False),
)
REPLICATING = ["cdc", "debezium", "dms"]


def snapshot(by_token: bool, *more: Membership) -> Snapshot:
    return Snapshot(
        entry_database="postgres", master="boss", identifier="orders", has_master_login=True, version=180000,
        on_server={"shop": SHOP}, named=frozenset(), roles=ROLES, memberships=(*EDGES, *more), settings={},
        administrators=frozenset(), busy=frozenset(), mark=None, replication_by_token=by_token,
    )  # fmt: skip


def desired(name: str, **accounts: Any) -> DesiredState:
    return DesiredState((DeclaredUser(name, (Grant("shop", "readonly"),), (), (), True),), accounts)


@pytest.mark.parametrize("user", REPLICATING)
def test_a_replicating_user_is_not_adopted_while_the_parameter_is_off(user):
    with pytest.raises(Refused, match=r"rds\.iam_auth_for_replication = 1") as error:
        replication.refuse(snapshot(by_token=False), desired(user))
    assert error.value.code == "keeps-password"
    replication.refuse(snapshot(by_token=True), desired(user))


@pytest.mark.parametrize("user", ["app", "boss", "nobody"])
def test_other_users_are_adopted_whatever_the_parameter_is(user):
    replication.refuse(snapshot(by_token=False), desired(user))


def test_users_that_take_tokens_already_are_not_refused():
    replication.refuse(snapshot(by_token=False), desired("debezium", debezium="created"))
    replication.refuse(snapshot(False, Membership("rds_iam", "debezium", False, True, True)), desired("debezium"))


@pytest.mark.parametrize("user", REPLICATING)
def test_a_migration_leaves_a_replicating_user_its_password_while_the_parameter_is_off(user):
    for successor in ("next", user):
        state = PostgresMigrator().login_state(snapshot(by_token=False), user, successor)
        assert "rds.iam_auth_for_replication" in state.keep_reason


@pytest.mark.parametrize(
    ("user", "successor", "keeps"),
    [
        ("debezium", "next", False),
        ("dms", "next", False),
        ("cdc", "cdc", False),
        ("cdc", "next", True),
        ("boss", "", True),
    ],
)
def test_with_the_parameter_only_an_attribute_that_nobody_inherits_keeps_a_password(user, successor, keeps):
    state = PostgresMigrator().login_state(snapshot(by_token=True), user, successor)
    assert bool(state.keep_reason) is keeps
