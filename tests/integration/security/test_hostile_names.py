"""Names that tenants gave to databases, schemas, tables, columns and roles stay names, whatever they look like."""

from dataclasses import replace

import pytest

from rdsiam.engines.protocols import DesiredState
from tests.integration.place import Place, user
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE

NAMES = [
    'x"; DROP ROLE witness; --', "x'; DROP ROLE witness; --", "`; DROP USER witness; --", "%s %(a)s {0} {u} %%", "x\ny",
    "\\'; x", "x\\", "e\u202evil", "$$x$$", "a.b", "CURRENT_USER", "NULL", "/* x", "*/ x", "$1", ":x", "x;--@y",
]  # fmt: skip
#: Names of PostgreSQL databases too, which take longer than schemas.
DATABASES = NAMES[:8]
READER, LISTER = user("reader", ("*", "readonly")), user("lister", ("*", ("SELECT",)))
LEAVER = user("leaver", ("*", "readwrite"))


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def place(request, make_place) -> Place:
    place: Place = make_place(request.param)
    with place.as_rdsadmin() as admin:
        for statement in [*_witness(place), *(each for name in NAMES for each in _objects(place, name))]:
            admin.run(statement)
    return place


def is_postgres(place: Place) -> bool:
    return place.database.family == "postgres"


def quoted(place: Place, name: str) -> str:
    mark = '"' if is_postgres(place) else "`"
    return mark + name.replace(mark, mark * 2) + mark


def _witness(place: Place) -> list[str]:
    if is_postgres(place):
        return ["CREATE ROLE witness LOGIN PASSWORD 'of-witness-1'"]
    return ["CREATE USER witness@'%' IDENTIFIED BY 'of-Witness-1'"]


def _objects(place: Place, name: str) -> list[str]:
    quote = quoted(place, name)
    if is_postgres(place):
        databases = [f"CREATE DATABASE {quote} OWNER boss"] if name in DATABASES else []
        return [
            f"CREATE ROLE {quote} LOGIN ROLE witness",
            f"CREATE SCHEMA {quote} AUTHORIZATION {quote}",
            f"CREATE TABLE {quote}.{quote} ({quote} int)",
            f"ALTER TABLE {quote}.{quote} OWNER TO {quote}",
            f"CREATE SEQUENCE {quote}.s",
            *databases,
        ]
    doubled = name.replace("\\", "\\\\").replace("'", "''")
    account = f"'{doubled}'@'10.%'"
    return [
        f"CREATE DATABASE {quote}",
        f"CREATE TABLE {quote}.{quote} ({quote} int)",
        f"CREATE USER {account} IDENTIFIED BY 'Of-owner-1'",
        f"GRANT SELECT ({quote}) ON {quote}.{quote} TO {account}",
        f"CREATE DEFINER = {account} VIEW {quote}.v AS SELECT 1",
    ]


def others(place: Place) -> dict[object, tuple[object, ...]]:
    """Return each account's login, rights and members that are no user of rdsiam's."""
    query = "SELECT concat(user, '@', host), plugin, authentication_string FROM mysql.user"
    if is_postgres(place):
        query = (
            "SELECT rolname, rolcanlogin, rolcreaterole, rolsuper, rolpassword, (SELECT string_agg(m.rolname, ','"
            " ORDER BY m.rolname) FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member WHERE a.roleid = r.oid AND"
            " m.rolname !~ '^(rdsiam_|reader$|lister$|leaver$)') FROM pg_authid r"
        )
    with place.as_rdsadmin() as admin:
        return {row[0]: tuple(row[1:]) for row in admin.run(query)}


def test_users_of_all_databases_read_all_tables_and_no_role_of_others_changes(place):
    before = others(place)
    statements, desired = place.converge(DesiredState((READER, LISTER, LEAVER), {}))

    assert (place.missing, place.denied) == ([], [])
    assert len(statements) > len(NAMES)
    for name in NAMES:
        database = "shop" if is_postgres(place) else name
        for reader in ("reader", "lister"):
            with place.as_user(reader, database) as session:
                assert session.run(f"SELECT * FROM {quoted(place, name)}.{quoted(place, name)}") in ([], ())
        if is_postgres(place) and name in DATABASES:
            place.as_user("reader", name).__exit__()
    assert place.converge(desired)[0] == []

    statements, after = place.converge(replace(desired, users=(READER, LISTER)))
    assert {statement.target for statement in statements} == {"leaver"}
    assert place.converge(after)[0] == []
    assert place.remove("lister").unreached == ()
    now = others(place)
    assert {account: now.get(account) for account in before} == before


def test_the_audit_names_them_as_they_are(place):
    host = "" if is_postgres(place) else "@10.%"
    assert {f"{name}{host}" for name in NAMES} <= set(place.audit())
