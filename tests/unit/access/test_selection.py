"""Recorded attributes: what they and the current ones both give stays, losses count at once, gains are confirmed."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.callers import Caller
from rdsiam.access.decide import decide, users_of
from rdsiam.access.fields import COVERED
from rdsiam.access.model import AccessFile, parse
from rdsiam.access.pending import pending
from rdsiam.access.selection import NOTHING, Attributes, SelectedDatabase, select
from rdsiam.access.users import LEVELS, DeclaredUser, Grant, gives
from tests.unit.databases import ORDERS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ACCOUNT = "123456789012"
TAGGER = f"arn:aws:iam::{ACCOUNT}:role/tagger"
SRE = f"arn:aws:iam::{ACCOUNT}:role/sre"
EXISTING = ("shop", "sales", "postgres")
SCHEMAS = ("app", "private", "public")


def test_a_changed_tag_takes_at_once_and_gives_nothing_before_it_is_confirmed():
    file = parse(f"""
version: 1
databases:
  - match: {{tags: {{env: dev}}}}
    users:
      - {{name: app, privileges: owner, on: [shop], callers: [{{role: "{TAGGER}"}}]}}
      - {{name: play, privileges: owner, on: [shop], roles: ["{TAGGER}"]}}
    suppress: [{{finding: undeclared-user, reason: play, until: 2030-01-01T00:00:00Z}}]
    rotate: {{users: [etl], every: 1d}}
  - match: {{tags: {{env: prod}}}}
    users: [{{name: app, privileges: readwrite, on: [shop], callers: [{{role: "{SRE}"}}]}}]
  - match: {{identifier: "*"}}
    users: [{{name: reporting, privileges: readonly, on: "*", roles: ["{SRE}"]}}]
""")
    recorded = replace(ORDERS, tags={"env": "prod"})
    tagged = select(replace(ORDERS, tags={"env": "dev"}), Attributes.of(recorded))

    app, reporting = file.declared(tagged)
    assert [str(grant) for grant in app.grants] == ["readwrite on shop"]
    assert (app.callers, app.roles) == ((), ())
    assert reporting == file.declared(recorded)[1], "what both give is as it was"
    assert file.rotating(tagged) == ()
    assert file.suppressions(tagged) == ()

    def allowed(database: SelectedDatabase, role: str) -> bool:
        return decide(file, database, "app", Caller(role, ACCOUNT), None, NOW).allowed

    assert not allowed(tagged, TAGGER)
    assert not allowed(tagged, SRE)
    assert users_of(file, tagged, Caller(TAGGER, ACCOUNT), NOW) == ()
    assert allowed(recorded, SRE)
    assert allowed(tagged.confirmed, TAGGER)
    assert "needs confirmation" in decide(file, tagged, "app", Caller(TAGGER, ACCOUNT), None, NOW).rule

    waiting = pending(file, tagged)
    assert waiting is not None
    assert waiting.entries == ("databases[0]",)
    assert "tag env: prod → dev" in waiting.changed
    assert [str(gain) for gain in waiting.gains] == [
        "app: owner on shop", f"app: caller {TAGGER}", "play: owner on shop", f"play: role {TAGGER}",
        "etl: rotation every 1d",
    ]  # fmt: skip


def test_what_a_new_access_yaml_gives_for_the_recorded_attributes_needs_no_confirmation():
    entry = '- {{match: {{identifier: "{}"}}, users: [{{name: {}, privileges: readonly, on: [shop], roles: ["{}"]}}]}}'
    lines = [entry.format("orders*", "app", SRE), entry.format("play-*", "play", TAGGER)]
    file = parse("version: 1\ndatabases:\n" + "\n".join(f"  {line}" for line in lines))
    renamed = select(replace(ORDERS, identifier="orders-2"), Attributes.of(ORDERS))
    assert [user.name for user in file.declared(renamed)] == ["app"]
    assert pending(file, renamed) is None
    renamed = select(replace(ORDERS, identifier="play-2"), Attributes.of(ORDERS))
    assert file.declared(renamed) == ()
    assert pending(file, renamed) is not None


def test_all_waits_on_a_copy_of_an_unknown_database():
    file = parse(f"""
version: 1
databases:
  - match: {{identifier: "*"}}
    users: [{{name: app, privileges: owner, on: [shop], roles: ["{SRE}"]}}]
""")
    copy = select(ORDERS, NOTHING)
    assert file.declared(copy) == ()
    waiting = pending(file, copy)
    assert waiting is not None
    assert "a copy of a database that rdsiam does not know" in str(waiting)


def test_a_caller_that_both_admit_is_admitted_as_long_as_both_do():
    file = parse(f"""
version: 1
databases:
  - match: {{tags: {{env: prod}}}}
    users: [{{name: app, privileges: owner, on: [shop], callers: [{{role: "{SRE}", until: 2026-11-24T13:00:00Z}}]}}]
  - match: {{tags: {{env: dev}}}}
    users: [{{name: app, privileges: owner, on: [shop], callers: [{{role: "{SRE}", reason: required}}]}}]
""")
    tagged = select(replace(ORDERS, tags={"env": "dev"}), Attributes("postgres", "orders", {"env": "prod"}))
    caller = Caller(SRE, ACCOUNT)
    assert not decide(file, tagged, "app", caller, None, NOW).allowed
    decision = decide(file, tagged, "app", caller, "an incident", NOW)
    assert (decision.allowed, decision.until) == (True, datetime(2026, 11, 24, 13, tzinfo=UTC))
    ((rule,),) = [user.callers for user in file.declared(tagged)]
    assert (rule.until, rule.reason) == (datetime(2026, 11, 24, 13, tzinfo=UTC), "required")


# --- any access.yaml, any attributes ---

levels = st.sampled_from(LEVELS)
lists = st.lists(st.sampled_from(["SELECT", "INSERT", "TRIGGER", "DELETE"]), min_size=1, max_size=3, unique=True)
schema_names = st.lists(st.sampled_from(SCHEMAS), min_size=1, max_size=2, unique=True)
whole = st.just("*") | st.lists(st.sampled_from(["shop", "sales"]), min_size=1, max_size=2, unique=True)
limited = st.lists(
    st.fixed_dictionaries({"database": st.just("shop"), "schemas": schema_names}), min_size=1, max_size=2
)
rights_and_places = st.fixed_dictionaries({"privileges": levels | lists, "on": whole}) | st.fixed_dictionaries(
    {"privileges": st.sampled_from(["readonly", "readwrite"]) | lists, "on": limited}
)
logins = st.fixed_dictionaries(
    {"name": st.sampled_from(["app", "play", "etl"])},
    optional={
        "roles": st.lists(st.sampled_from([TAGGER, SRE]), max_size=2, unique=True),
        "callers": st.lists(st.sampled_from([{"role": TAGGER}, {"role": SRE}, {"claim": {"g": "x"}}]), max_size=2),
        "adopt": st.booleans(),
    },
)
users = st.builds(lambda login, rights: login | rights, logins, rights_and_places)
matches = st.sampled_from([
    {"identifier": "*"}, {"identifier": "orders*"}, {"identifier": "play-*"}, {"tags": {"env": "dev"}},
    {"tags": {"env": "prod"}}, {"identifier": "orders*", "tags": {"env": "prod"}},
])  # fmt: skip
files = st.lists(
    st.fixed_dictionaries(
        {"match": matches, "users": st.lists(users, max_size=3)}, optional={"exclude_schemas": schema_names}
    ),
    min_size=1,
    max_size=4,
).map(lambda entries: AccessFile.model_validate({"version": 1, "databases": entries}))
attributes = st.builds(
    Attributes,
    engine=st.just("postgres"),
    identifier=st.sampled_from(["orders", "orders-2", "play-1"]),
    tags=st.sampled_from([{}, {"env": "dev"}, {"env": "prod"}]),
)


def of(database: SelectedDatabase, chosen: Attributes) -> SelectedDatabase:
    return replace(database, engine=chosen.engine, identifier=chosen.identifier, tags=chosen.tags)


def rights(user: DeclaredUser) -> set[tuple[str, str, str]]:
    """Return what a user may do in each schema: a level is all levels up to it, and all privileges that it covers."""
    held: set[tuple[str, str, str]] = set()
    for grant in user.grants_on(EXISTING):
        schemas = {*SCHEMAS, "of others"} - {*user.excluded_schemas} if grant.schemas is None else grant.schemas
        if isinstance(grant.privileges, str):
            below = LEVELS[: LEVELS.index(grant.privileges) + 1]
            privileges = {*below, *COVERED[grant.privileges]}
        else:
            privileges = {*grant.privileges}
        held |= {(grant.on, schema, one) for schema in schemas for one in privileges}
    return held


def given_to(declared: tuple[DeclaredUser, ...]) -> dict[str, tuple[Any, ...]]:
    return {
        user.name: (
            rights(user),
            set(user.roles),
            {one.model_dump_json() for one in user.callers},
            {user.adopt} - {False},
        )
        for user in declared
    }


@given(files, attributes, attributes)
def test_a_database_has_exactly_what_recorded_and_current_attributes_both_give(file, recorded, current):
    database = of(ORDERS, current)
    both = given_to(file.declared(select(database, recorded)))
    one, other = given_to(file.declared(database)), given_to(file.declared(of(ORDERS, recorded)))
    assert both.keys() == one.keys() & other.keys()
    for name, held in both.items():
        assert held == tuple(first & second for first, second in zip(one[name], other[name], strict=True))
    assert file.declared(select(database, recorded).confirmed) == file.declared(database)


@given(files, attributes, attributes)
def test_something_is_pending_exactly_if_confirming_would_give_something(file, recorded, current):
    database = select(of(ORDERS, current), recorded)
    before, after = given_to(file.declared(database)), given_to(file.declared(database.confirmed))
    gains = any(
        name not in before or any(a - b for a, b in zip(held, before[name], strict=True))
        for name, held in after.items()
    )
    assert (pending(file, database) is not None) == gains


def test_a_grant_that_the_effective_ones_give_in_other_words_is_no_gain():
    effective = (Grant("*", "readonly"), Grant("*", ("INSERT",)), Grant("shop", "readwrite"))
    given = [Grant("shop", "readonly"), Grant("shop", ("INSERT", "SELECT")), Grant("*", ("INSERT", "SELECT"))]
    assert all(gives(effective, grant) for grant in given)
    more = [Grant("shop", "owner"), Grant("*", "readwrite"), Grant("*", ("DELETE",)), Grant("other", ("UPDATE",))]
    assert not any(gives(effective, grant) for grant in more)


def test_a_schema_that_is_no_longer_excluded_is_a_gain():
    file = parse(f"""
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readonly, on: [shop], roles: ["{SRE}"]}}
      - {{name: dpo, privileges: readonly, on: [shop, {{database: shop, schemas: private}}], roles: ["{SRE}"]}}
  - match: {{tags: {{env: prod}}}}
    exclude_schemas: [private, hr]
""")
    recorded = replace(ORDERS, tags={"env": "prod"})
    tagged = select(replace(ORDERS, tags={"env": "dev"}), Attributes.of(recorded))

    assert file.declared(tagged) == file.declared(recorded)
    waiting = pending(file, tagged)
    assert waiting is not None
    assert [str(gain) for gain in waiting.gains] == [
        "app: readonly on shop: schemas hr, private, no longer excluded",
        "dpo: readonly on shop: schema hr, no longer excluded",
    ]


@given(files, attributes, attributes, st.sampled_from([TAGGER, SRE]))
def test_vending_allows_only_callers_that_both_attributes_allow(file, recorded, current, role):
    database, caller = select(of(ORDERS, current), recorded), Caller(role, ACCOUNT)
    allowed = set(users_of(file, database, caller, NOW))
    both = [set(users_of(file, of(ORDERS, one), caller, NOW)) for one in (recorded, current)]
    assert allowed == both[0] & both[1]
    for user in ("app", "play", "etl"):
        assert decide(file, database, user, caller, None, NOW).allowed == (user in allowed)


@pytest.mark.parametrize("attribute", ["engine", "identifier", "tags"])
def test_every_attribute_that_an_entry_can_match_is_recorded(attribute):
    values: dict[str, Any] = {"engine": "mysql", "identifier": "x", "tags": {"a": "b"}}
    changed = replace(ORDERS, **{attribute: values[attribute]})
    assert select(changed, Attributes.of(ORDERS)).differs
