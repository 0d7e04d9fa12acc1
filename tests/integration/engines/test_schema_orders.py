"""Declarations, new schemas and new tables in any order: users may do what is declared, and no statement is left."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.access.users import DeclaredUser, Grant, merge
from rdsiam.engines.protocols import DesiredState
from tests.examples import at_most
from tests.integration.place import Client, Place

#: The last two come and go.
SCHEMAS = ("app", 'We "quote" {}', "private", "public", "late", "later")
ON_TABLES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
LEVELS = {"readonly": ON_TABLES[:1], "readwrite": ON_TABLES[:4], "owner": ON_TABLES}


@dataclass(frozen=True)
class Step:
    """A new access.yaml, and what the owners of the database do after it is applied.

    :ivar grants: user → its grants; users that are left out are not declared.
    :ivar toggled: a schema that is made if it does not exist, and dropped if it does.
    """

    grants: dict[str, list[Grant]]
    excluded: frozenset[str]
    toggled: str | None

    def users(self) -> tuple[DeclaredUser, ...]:
        excluded = tuple(sorted(self.excluded))
        return tuple(
            DeclaredUser(name, merge(grants, excluded), (), (), False, excluded_schemas=excluded)
            for name, grants in self.grants.items()
        )


lists = st.sets(st.sampled_from((*ON_TABLES, "EXECUTE")), min_size=1, max_size=2).map(lambda each: tuple(sorted(each)))
some = st.sets(st.sampled_from(SCHEMAS), min_size=1, max_size=2).map(lambda each: tuple(sorted(each)))
grants = st.builds(Grant, st.just("shop"), st.sampled_from(sorted(LEVELS)) | lists) | st.builds(
    Grant, st.just("shop"), st.sampled_from(["readonly", "readwrite"]) | lists, some
)
steps = st.builds(
    Step,
    st.dictionaries(st.sampled_from(["ann", "bob"]), st.lists(grants, min_size=1, max_size=3), max_size=2),
    st.frozensets(st.sampled_from(SCHEMAS), max_size=2),
    st.none() | st.sampled_from(SCHEMAS[-2:]),
)


@pytest.fixture(
    scope="module",
    params=["postgres", *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("postgres14", "postgres16"))],
)
def place(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE ROLE vendor NOLOGIN; GRANT vendor TO boss")
        for schema in SCHEMAS[:-2]:
            make(master, schema)
    return place


TABLES = """
SELECT n.nspname, c.relname, {}, {} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
FUNCTIONS = """
SELECT n.nspname, p.proname, {}, {} FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
#: Server → the state after the last run.
STATES: dict[str, DesiredState] = {}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def make(master: Client, schema: str) -> None:
    """Make a schema with a table and a function of the master, and others of an ordinary role."""
    s = quoted(schema)
    master.run(f"CREATE SCHEMA IF NOT EXISTS {s}; GRANT ALL ON SCHEMA {s} TO vendor")
    for role, name in (("boss", "b"), ("vendor", "v")):
        master.run(f"SET ROLE {role}; CREATE TABLE {s}.{name} (id int)")
        master.run(f"CREATE FUNCTION {s}.f_{name}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        master.run(f"REVOKE EXECUTE ON FUNCTION {s}.f_{name} FROM PUBLIC; RESET ROLE")


def declared(user: DeclaredUser, schema: str) -> set[str]:
    """Return what a user is declared to do in a schema."""
    held: set[str] = set()
    for grant in user.grants:
        if schema not in user.excluded_schemas if grant.schemas is None else schema in grant.schemas:
            held.update(LEVELS[grant.privileges] if isinstance(grant.privileges, str) else grant.privileges)
    return held


def held(master: Client, user: str) -> Iterable[tuple[str, str, set[str]]]:
    """Yield schema, name and what a user may do of each table and function."""
    usage = f"has_schema_privilege('{user}', n.oid, 'USAGE')"
    tables = ", ".join(f"has_table_privilege('{user}', c.oid, '{each}')" for each in ON_TABLES)
    functions = f"has_function_privilege('{user}', p.oid, 'EXECUTE')"
    for schema, name, opened, *may in master.run(TABLES.format(usage, tables)):
        yield schema, name, {each for each, allowed in zip(ON_TABLES, may, strict=True) if allowed and opened}
    for schema, name, opened, may in master.run(FUNCTIONS.format(usage, functions)):
        yield schema, name, {"EXECUTE"} if may and opened else set()


@settings(max_examples=at_most(15))
@given(st.lists(steps, min_size=2, max_size=5))
def test_in_any_order_users_have_the_declared_privileges_and_no_statement_is_left(place, history):
    for number, step in enumerate(history):
        users = step.users()
        state = STATES.get(place.database.arn, DesiredState((), {}))
        _, after = place.converge(replace(state, users=users))
        STATES[place.database.arn] = after
        with place.as_master() as master:
            schemas = [row[0] for row in master.run("SELECT nspname FROM pg_namespace") if row[0] in SCHEMAS]
            for schema in schemas:
                later = f"{quoted(schema)}.later_{number}"
                master.run(f"DROP TABLE IF EXISTS {later}; SET ROLE vendor; CREATE TABLE {later} (id int); RESET ROLE")
            assert [one.statement for one in place.converge(after)[0]] == []
            for user in users:
                for schema, name, may in held(master, user.name):
                    on = set(ON_TABLES) if not name.startswith("f_") else {"EXECUTE"}
                    assert may == declared(user, schema) & on, (user, schema, name)
            if step.toggled in schemas:
                master.run(f"DROP SCHEMA {step.toggled} CASCADE")
            elif step.toggled:
                make(master, step.toggled)
