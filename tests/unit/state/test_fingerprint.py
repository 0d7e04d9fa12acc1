"""Fingerprints change with all that an onboarding depends on, and with nothing else."""

from dataclasses import replace

import pytest

from rdsiam.access.model import parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.state import fingerprint
from tests.unit.databases import ORDERS

DATABASE = replace(ORDERS, engine_version="18.1", tags={"env": "prod"})
FILE = """
version: 1
databases:
  - match: {identifier: orders}
    users:
      - {name: app, privileges: readonly, on: [shop], callers: [{claim: {group: ops}, until: 2027-01-01T00:00:00Z}]}
  - match: {identifier: ledger}
    users: [{name: other, privileges: readonly, on: [shop]}]
"""


MATCH = f"{{identifier: {DATABASE.identifier}}}"
ROTATING = f"""\
  - match: {MATCH}
    rotate: {{users: [etl], every: 30d, window: "02:00/2h", scheme: alternating}}
"""


def of(text: str, database: SelectedDatabase = DATABASE) -> str:
    access = parse(text)
    return fingerprint.of_database(
        database, fingerprint.of_declared(access.declared(database), access.rotating(database))
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("other", "another"), ("ledger", "books"), ("  - match: {identifier: ledger}", "  - match: {engine: mysql}")],
)
def test_an_entry_for_another_database_does_not_count(old, new):
    assert old in FILE
    assert of(FILE.replace(old, new)) == of(FILE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("name: app", "name: apps"), ("readonly", "readwrite"), ("shop", "myapp"), ("ops", "dev"), ("2027", "2028")],
)
def test_an_entry_for_this_one_does(old, new):
    assert of(FILE.replace(old, new, 1)) != of(FILE)


@pytest.mark.parametrize("old", ["[shop]", "[{database: shop, schemas: [app]}]"])
@pytest.mark.parametrize(
    "new",
    [
        "[{database: shop, schemas: [crm]}]",
        "[{database: shop, schemas: [app, crm]}]",
        "[shop, {database: crm, schemas: [app]}]",
        "[shop], adopt: true",
    ],
)
def test_schemas_count(old, new):
    assert of(FILE.replace("[shop]", old, 1)) != of(FILE.replace("[shop]", new, 1))


def test_excluded_schemas_count_if_an_entry_for_this_one_has_them():
    excluding = FILE.replace("    users:\n", "    exclude_schemas: [private]\n    users:\n", 1)
    assert of(excluding) != of(FILE)
    assert of(excluding) != of(excluding.replace("private", "[private, hr]", 1).replace("[[", "[").replace("]]", "]"))
    assert of(FILE.replace("    users: [{", "    exclude_schemas: [private]\n    users: [{", 1)) == of(FILE)


@pytest.mark.parametrize(
    ("old", "new"), [("etl", "els"), ("30d", "90d"), ("02:00/2h", "03:00/2h"), ("alternating", "single")]
)
def test_a_rotation_of_this_one_does(old, new):
    rotating = FILE.replace("databases:\n", f"databases:\n{ROTATING}", 1)
    assert of(rotating) != of(FILE)
    assert of(rotating.replace(old, new, 1)) != of(rotating)
    elsewhere = rotating.replace(MATCH, "{identifier: ledger}", 1)
    assert of(elsewhere) == of(FILE)


@pytest.mark.parametrize(
    "change",
    [
        {"resource_id": "db-TWO"},
        {"iam_enabled": False},
        {"engine_version": "19.0"},
        {"host": "other"},
        {"tags": {"env": "test"}},
        {"replica_of": "source"},
        {"master_secret_arn": "arn:s"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_database_counts(change):
    assert of(FILE, replace(DATABASE, **change)) != of(FILE)


@pytest.mark.parametrize("change", [{"status": "modifying"}, {"pending": ("Port",)}, {"public": True}], ids=str)
def test_attributes_that_pass_or_are_not_managed_make_no_other_fingerprint(change):
    assert of(FILE, replace(DATABASE, **change)) == of(FILE)
