"""Schemas from access.yaml to the database: planned, opened, recorded, closed by the reconcile of a new file."""

from typing import Any

from tests.integration.account import Account, until

IDENTIFIER = "of-schemas"


def declare(account: Account, *schemas: str, exclude: str) -> None:
    users: list[dict[str, Any]] = [
        {"name": "analyst", "privileges": "readonly", "on": ["shop"]},
        {"name": "importer", "privileges": "readwrite", "on": [{"database": "shop", "schemas": list(schemas)}]},
    ]
    account.entries[IDENTIFIER] = {
        "match": {"identifier": IDENTIFIER}, "exclude_schemas": [exclude], "users": users,
    }  # fmt: skip
    account.publish_entries()


def readable(account: Account, arn: str, user: str) -> set[str]:
    query = f"""
    SELECT nspname FROM pg_namespace n WHERE nspname IN ('app', 'hr', 'private')
    AND has_schema_privilege('{user}', n.oid, 'USAGE')
    AND has_table_privilege('{user}', (quote_ident(nspname) || '.t')::regclass, 'SELECT')
    """
    with account.as_master(arn) as master:
        return {row[0] for row in master.run(query)}


def test_schemas_are_opened_as_planned_and_closed_by_the_reconcile_of_a_new_file(account):
    arn = account.create(IDENTIFIER)
    account.wait(arn)
    with account.as_master(arn) as master:
        for schema in ("app", "hr", "private"):
            master.run(f"CREATE SCHEMA {schema}")
            master.run(f"CREATE TABLE {schema}.t (id int)")
    declare(account, "app", "nowhere", exclude="private")

    planned = account.onboard(arn, plan=True)
    assert planned["schemas"] == [{"database": "shop", "schemas": ["app", "hr", "public"], "count": 3}]
    shown = account.rdsiam("onboard", IDENTIFIER, "--plan")
    assert "schemas that levels open in shop: app, hr, public" in shown.stderr
    done = until(lambda: _finished(account.onboard(arn)), 90)
    (part,) = done["incomplete"]
    assert part["what"] == "schema nowhere in shop"
    assert (readable(account, arn, "analyst"), readable(account, arn, "importer")) == ({"app", "hr"}, {"app"})
    assert set(account.record(arn)["granted"]["M"]) == {"importer"}

    declare(account, "private", exclude="hr")
    assert arn in account.reconcile(plan=True)["started"]
    account.reconcile()

    until(lambda: readable(account, arn, "analyst") == {"app", "private"}, 90)
    until(lambda: readable(account, arn, "importer") == {"private"}, 90)
    until(lambda: account.onboard(arn)["status"] == "unchanged", 90)


def _finished(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer if the database is onboarded: the event of its creation may have started a run before."""
    return answer if answer["incomplete"] else None
