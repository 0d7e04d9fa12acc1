"""Drift of a database: what starts an onboarding, and what does not."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rdsiam.access.effective import effective_users
from rdsiam.access.model import AccessFile, parse
from rdsiam.audit.account import AccountContext
from rdsiam.audit.drift import NO_DRIFT, Drift, Login, applied_users, drift_of, logins_of
from rdsiam.audit.evaluate_database import RecordedState, evaluate_database
from rdsiam.core import times
from rdsiam.engines.facts import ServerFacts, Unreadable
from rdsiam.state import fingerprint
from rdsiam.state.layout import Layout
from rdsiam.state.record import Applied, Record
from tests.audited_fleet import (
    ACCESS,
    AT,
    MANAGED,
    MY_CLEAN,
    MYSQL,
    PG_CLEAN,
    POSTGRES,
    ROLE,
    my,
    pg,
    with_accounts,
    without_accounts,
)

SEEN = Layout("databases", "owners")
LATELY, LONG_AGO = times.text(AT - timedelta(days=6)), times.text(AT - timedelta(days=8))
EVERYWHERE = parse(f"""\
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readwrite, on: "*", roles: ["{ROLE}"]}}
""")


def record(database: Any = POSTGRES, access: AccessFile = ACCESS, **more: Any) -> Record:
    """Return the record of a database whose last onboarding finished."""
    users = effective_users(access.declared(database), more.get("revoked", {}))
    applied = Applied("v1", fingerprint.of_declared(users), len(access.databases), tuple(user.name for user in users))
    managed = {**MANAGED, "former": "created"}
    known: dict[str, Any] = {"accounts": managed, "finished": True, "applied": applied, "layout": SEEN}
    return Record(database.resource_id, **(known | more))


def drift(
    facts: ServerFacts | Unreadable, of: Record | None = None, access: AccessFile = ACCESS, database: Any = POSTGRES
) -> Drift:
    """Return the drift of a database that the audit has read."""
    known = of or record(database, access)
    state = RecordedState(known.accounts, known.leaving, known.revoked)
    findings = evaluate_database(database, facts, access, AccountContext(), state, AT)
    users = applied_users(database, known, access)
    return NO_DRIFT if users is None else drift_of(users, facts, known, findings, AT)


def logins(known: Record) -> tuple[Login, ...]:
    users = applied_users(POSTGRES, known, ACCESS)
    assert users is not None
    return logins_of(users, known)


SCHEMAS = Layout("databases")
PG, MY = replace(PG_CLEAN, layout=SEEN), replace(MY_CLEAN, layout=SCHEMAS)


def test_a_database_that_is_as_declared_has_none():
    assert drift(PG).differences == {}
    assert drift(MY, record(MYSQL, layout=SCHEMAS), database=MYSQL).differences == {}
    assert not drift(PG).is_new


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        pytest.param(replace(PG, layout=Layout("other", "owners")), ["databases"], id="a schema was created"),
        pytest.param(replace(PG, layout=Layout("databases", "other")), ["owners"], id="another role owns objects"),
        pytest.param(without_accounts(PG, "report"), ["users"], id="a user was dropped"),
        pytest.param(with_accounts(PG, pg("report", login=False)), ["users"], id="a user was locked"),
        pytest.param(with_accounts(PG, pg("app")), ["users"], id="a user left its group"),
        pytest.param(
            with_accounts(PG, pg("app", member_of=("shop_owner", "shop_readwrite"))),
            [],
            id="a group that rdsiam does not manage",
        ),
        pytest.param(with_accounts(PG, pg("legacy")), [], id="a user that nobody declares"),
        pytest.param(with_accounts(PG, pg("former")), ["users"], id="a user that rdsiam manages and nobody declares"),
    ],
)
def test_differences_from_the_declaration_and_from_the_last_run_are_drift(facts, parts):
    found = drift(facts)
    assert sorted(found.differences) == parts
    assert found.is_new == bool(parts)
    assert Drift.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(("on", "parts"), [('"*"', ["databases", "users"]), ("[shop]", [])])
def test_a_new_schema_of_mysql_matters_only_to_users_of_all_schemas(on, parts):
    access = parse(
        "version: 1\ndatabases:\n  - match: {identifier: '*'}\n"
        f"    users:\n      - {{name: app, privileges: readwrite, on: {on}}}\n"
    )
    facts = replace(
        without_accounts(MY, "report"), databases=("shop", "tenant"), layout=Layout.of_schemas(("shop", "tenant"))
    )
    known = record(MYSQL, access, layout=Layout.of_schemas(("shop",)))
    assert sorted(drift(facts, known, access, MYSQL).differences) == parts


def test_a_new_database_of_postgres_is_drift_of_databases_and_of_users():
    facts = replace(
        with_accounts(without_accounts(PG, "report"), pg("app", member_of=("shop_readwrite",))),
        databases=("postgres", "shop", "tenant"),
        layout=Layout("other", "owners"),
    )
    assert sorted(drift(facts, access=EVERYWHERE).differences) == ["databases", "users"]


def test_a_drift_that_a_run_could_not_end_is_new_only_when_something_else_differs():
    once = drift(without_accounts(PG, "report"))
    again = drift(without_accounts(PG, "report"), record(handled=once.digest, handled_at=LATELY))
    more = drift(without_accounts(PG, "report", "app"), record(handled=once.digest, handled_at=LATELY))
    assert (once.is_new, again.is_new, more.is_new) == (True, False, True)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"finished": False}, id="a run has not finished"),
        pytest.param({"applied": None}, id="nothing was applied"),
        pytest.param({"applied": Applied("v1", "older", 1, ("app",))}, id="access.yaml has changed since"),
        pytest.param({"resource_id": "db-FORMER"}, id="another database of this name"),
    ],
)
def test_a_difference_that_a_reconcile_onboards_does_not_count_as_drift(changed):
    known = replace(record(), **changed)
    assert drift(without_accounts(PG, "report"), known) == NO_DRIFT
    assert applied_users(POSTGRES, known, ACCESS) is None


def test_a_database_without_a_record_or_without_a_layout_has_none():
    assert applied_users(POSTGRES, None, ACCESS) is None
    assert drift(PG, record(layout=None)).differences == {}


def test_a_drift_that_no_run_could_end_is_tried_again_after_a_week():
    """Its owner may have removed what stood in the way, or it ended by another run and came again."""
    facts = without_accounts(PG, "report")
    digest = drift(facts).digest
    assert not drift(facts, record(handled=digest, handled_at=LATELY)).is_new
    assert drift(facts, record(handled=digest, handled_at=LONG_AGO)).is_new


def test_a_database_that_can_not_be_read_keeps_what_was_handled():
    assert drift(Unreadable("port", "timed out"), record(handled="d", handled_at=LATELY)) == Drift({}, "d")


def test_a_revoked_user_is_no_drift():
    assert drift(without_accounts(PG, "report"), record(revoked={"report": "left"})).differences == {}


def test_an_accepted_finding_is_no_drift():
    access = parse(f"""\
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readwrite, on: [shop], roles: ["{ROLE}"]}}
      - {{name: report, privileges: readonly, on: [shop], callers: [{{role: "{ROLE}"}}]}}
    suppress:
      - {{finding: missing-user, user: report, reason: dropped for a week, until: 2026-12-31T00:00:00Z}}
""")
    assert drift(without_accounts(PG, "report"), record(access=access), access).differences == {}


def test_the_logins_that_onboarding_gave_are_those_of_roles_and_those_that_are_vended():
    shards = {"report": 2}
    assert logins(record(shards=shards)) == (Login(ROLE, "app"), Login(None, "report", 2))
    assert logins(record(shards=shards, revoked={"app": "left"})) == (Login(None, "report", 2),)
    assert logins(record()) == (Login(ROLE, "app"),), "no shard had room for it"


def test_on_mysql_privileges_of_another_account_are_drift():
    facts = with_accounts(MY, my("app", privileges={"shop": ("SELECT",)}))
    assert sorted(drift(facts, record(MYSQL, layout=SCHEMAS), database=MYSQL).differences) == ["users"]


def test_on_mysql_privileges_of_a_revoked_user_are_no_drift():
    facts = with_accounts(MY, my("app", privileges={"shop": ("SELECT",)}, unusable=True, locked=True))
    known = record(MYSQL, layout=SCHEMAS, revoked={"app": "left"})
    assert drift(facts, known, database=MYSQL).differences == {}
