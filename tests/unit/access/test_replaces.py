"""Users that replace others, as access.yaml declares them."""

import pytest

from rdsiam.access.model import parse
from rdsiam.errors import AccessFileInvalid
from tests.unit.databases import database


def file(*users: str) -> str:
    lines = "".join(f"      - {user}\n" for user in users)
    return f"version: 1\ndatabases:\n  - match: {{identifier: '*'}}\n    users:\n{lines}"


def declared(*users: str):
    return parse(file(*users)).declared(database("orders"))


def test_a_user_that_replaces_has_no_grants_and_is_adopted_only_in_place():
    paired, in_place = declared("{name: app_iam, replaces: app}", "{name: other, replaces: other}")
    assert (paired.replaces, paired.predecessor, paired.grants, paired.adopt) == ("app", "app", (), False)
    assert (in_place.replaces, in_place.predecessor, in_place.adopt) == ("other", None, True)


@pytest.mark.parametrize(
    ("users", "problem"),
    [
        (["{name: a, replaces: b, privileges: readonly, on: x}"], "leave privileges and on out"),
        (["{name: a}"], "privileges: is missing"),
        (["{name: a, replaces: b}", "{name: a, privileges: readonly, on: x}"], "either privileges or replaces"),
        (["{name: a, replaces: b}", "{name: b, privileges: readonly, on: x}"], "b is declared itself"),
        (["{name: a, replaces: b}", "{name: c, replaces: b}"], "a replaces b already"),
        (["{name: a, replaces: rdsiam_manager}"], "reserved"),
        (["{name: a, replaces: pg_monitor}"], "reserved"),
        (['{name: a, replaces: "x\\u202ey"}'], "printable"),
        (["{name: a, replaces: BOSS}"], "the master user"),
    ],
)
def test_contradictory_declarations_are_refused_with_their_problem(users, problem):
    with pytest.raises(AccessFileInvalid, match=problem):
        declared(*users)
