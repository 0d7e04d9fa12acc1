"""Users that replace others: what access.yaml may say, and names and lists that a server would misread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import parse
from rdsiam.engines.mysql.grants import Held, Server, difference
from rdsiam.engines.mysql.replacement import _covers
from rdsiam.engines.postgres.settings import acting_as, changes, elements
from rdsiam.errors import AccessFileInvalid
from tests.unit.databases import database

MARIADB = Server(True, (10, 11, 6))


def file(*users: str) -> str:
    lines = "".join(f"      - {user}\n" for user in users)
    return f"version: 1\ndatabases:\n  - match: {{identifier: '*'}}\n    users:\n{lines}"


def declared(*users: str):
    return parse(file(*users)).declared(database("orders"))


def test_it_has_no_grants_of_its_own_and_is_adopted_only_in_place():
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
def test_what_makes_no_sense_is_named(users, problem):
    with pytest.raises(AccessFileInvalid, match=problem):
        declared(*users)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_lists_are_read_as_postgres_quotes_them(names):
    kept = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert elements(kept) == names


@pytest.mark.parametrize(
    ("kept", "names"),
    [('"$user", public', ["$user", "public"]), ('""', [""]), ("", [""]), ('a,"b,c" , d', ["a", "b,c", "d"])],
)
def test_lists_as_servers_write_them(kept, names):
    assert elements(kept) == names


def test_settings_become_those_of_the_other_and_no_more():
    wanted = acting_as("app", {(None, "search_path"): '"$user", x', ("shop", "role"): "owners"})
    now: dict[tuple[str | None, str], str] = {(None, "role"): "app", (None, "work_mem"): "1MB"}
    assert [each.as_string() for each in changes("app_iam", now, wanted)] == [
        'ALTER ROLE "app_iam" RESET "work_mem"',
        """ALTER ROLE "app_iam" SET "search_path" TO '$user', 'x'""",
        """ALTER ROLE "app_iam" IN DATABASE "shop" SET "role" TO 'owners'""",
    ]
    assert changes("app_iam", wanted, wanted) == []


@pytest.mark.parametrize(
    ("pattern", "kind", "covers"),
    [
        ("%", "SCHEMA", True),
        ("m%", "SCHEMA", True),
        ("MYSQL", "SCHEMA", True),
        ("mysq_", "SCHEMA", True),
        ("mysq\\_", "SCHEMA", False),
        ("shop", "SCHEMA", False),
        ("mysql", "TABLE", True),
        ("mysq_", "TABLE", False),
    ],
)
def test_patterns_that_cover_the_servers_own_schemas(pattern, kind, covers):
    assert _covers(pattern, "mysql", kind) is covers


PRIVILEGES = st.frozensets(st.sampled_from(["SELECT", "INSERT", "UPDATE"]), min_size=1)
OBJECTS = st.sampled_from([("SCHEMA", "shop"), ("SCHEMA", "a\\_b"), ("TABLE", "shop", "t`x"), ("PROCEDURE", "s", "p")])
ROLES = st.frozensets(st.sampled_from([("r", ""), ("s", "")]))
HELD = st.builds(Held, st.dictionaries(OBJECTS, PRIVILEGES), ROLES, st.just(frozenset()))


@given(HELD, HELD)
def test_what_is_revoked_and_granted_makes_the_one_the_other(own, wanted):
    has = {key: set(value) for key, value in own.on.items()}
    roles = set(own.roles)
    for step in difference(own, wanted, MARIADB, "x"):
        verb, _, rest = step.text.partition(" ")
        if step.needs is None:
            role = (rest[1 : rest.index("`", 1)], "")
            roles = roles - {role} if verb == "REVOKE" else roles | {role}
            continue
        key = next(one for one in {**own.on, **wanted.on} if f" ON {told(one)} " in step.text)
        has.setdefault(key, set())
        has[key] = has[key] - step.needs if verb == "REVOKE" else has[key] | step.needs
    assert {key: value for key, value in has.items() if value} == {key: set(value) for key, value in wanted.on.items()}
    assert roles == wanted.roles
    assert list(difference(wanted, wanted, MARIADB, "x")) == []


def told(key: tuple[str, ...]) -> str:
    names = [name.replace("`", "``") for name in key[1:]]
    if key[0] == "SCHEMA":
        return f"`{names[0]}`.*"
    return f"{'PROCEDURE ' if key[0] == 'PROCEDURE' else ''}`{names[0]}`.`{names[1]}`"
