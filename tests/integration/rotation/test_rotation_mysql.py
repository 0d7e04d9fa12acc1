"""Rotation on Oracle's MySQL: exact copies of rights, second passwords, and accounts with rules of their own."""

import itertools
from contextlib import suppress

import pytest

from rdsiam.engines.logins import Password
from rdsiam.errors import ConnectionFailed
from rdsiam.events.rotate import STEPS
from tests.integration.place import DENIED, Place
from tests.integration.rotation.rotating import Fault, Rotating

KEEPER = "APPLICATION_PASSWORD_ADMIN"


@pytest.fixture(scope="module")
def place(make_place) -> Place:
    place: Place = make_place("mysql")
    with place.as_master() as master:
        for schema in ("secret_db", "other_db"):
            master.run(f"CREATE DATABASE {schema}")
            master.run(f"CREATE TABLE {schema}.things (id int)")
    return place


def run(place: Place, *statements: str) -> None:
    with place.as_master() as master:
        for statement in statements:
            master.run(statement)


def grants(place: Place, user: str) -> list[str]:
    """Return the account's rights as the server spells them, without its name."""
    with place.as_rdsadmin() as admin:
        return sorted(row[0].replace(f"`{user}`@`%`", "?") for row in admin.run(f"SHOW GRANTS FOR {user}@'%'"))


def rotate_to_clone(rotating: Rotating) -> str:
    """Rotate until the clone's turn has passed, and return the clone's name."""
    clone = rotating.user + "_clone"
    for _ in range(2):
        rotating.converge(attempts=1)
        current = rotating.value(rotating.labelled("AWSCURRENT"))
        assert current is not None
        if current.user == clone:
            return clone
    raise AssertionError("the clone has no turn")


RIGHTS = {
    "reads everything but a schema": (["GRANT SELECT ON *.* TO {u}", "REVOKE SELECT ON secret_db.* FROM {u}"], True),
    "writes everything but the server's schemas": (
        ["GRANT SELECT, INSERT, UPDATE ON *.* TO {u}", "REVOKE SELECT, UPDATE ON secret_db.* FROM {u}"], True,
    ),
    "two schemas are left out": (
        ["GRANT SELECT, INSERT ON *.* TO {u}", "REVOKE SELECT ON secret_db.* FROM {u}",
         "REVOKE SELECT, INSERT ON other_db.* FROM {u}"], True,
    ),
    "grants one dynamic privilege": (
        ["GRANT SELECT ON *.* TO {u}", "GRANT ROLE_ADMIN ON *.* TO {u} WITH GRANT OPTION",
         "GRANT XA_RECOVER_ADMIN ON *.* TO {u}"], False,
    ),
    "grants the static ones": (
        ["GRANT SELECT, PROCESS ON *.* TO {u} WITH GRANT OPTION", "GRANT XA_RECOVER_ADMIN ON *.* TO {u}"], False,
    ),
    "columns, routines and roles": (
        ["GRANT SELECT (id) ON secret_db.things TO {u}", "GRANT INSERT ON other_db.* TO {u} WITH GRANT OPTION",
         "CREATE ROLE IF NOT EXISTS clerks", "GRANT clerks TO {u}"], False,
    ),
    "passes on columns and a role": (
        ["GRANT SELECT (id) ON secret_db.things TO {u} WITH GRANT OPTION", "CREATE ROLE IF NOT EXISTS clerks",
         "GRANT clerks TO {u} WITH ADMIN OPTION", "GRANT USAGE ON other_db.* TO {u} WITH GRANT OPTION"], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHTS)
def test_a_clone_has_the_rights_of_its_base_exactly(place, make_rotating, case):
    statements, restricted = RIGHTS[case]
    rotating = make_rotating(place, True)
    run(place, *(statement.format(u=rotating.user) for statement in statements))
    clone = rotate_to_clone(rotating)
    assert grants(place, clone) == grants(place, rotating.user)
    current = rotating.value(rotating.labelled("AWSCURRENT"))
    with place.login(Password(clone, current.password)) as session:
        session.run("SELECT 1")
        if restricted:
            with pytest.raises(DENIED):
                session.run("SELECT * FROM secret_db.things")


def test_a_clone_lacks_nothing_but_what_was_dropped(place, make_rotating):
    rotating = make_rotating(place, True)
    run(
        place,
        "CREATE TABLE other_db.gone (id int, b int)",
        f"GRANT SELECT, INSERT ON other_db.gone TO {rotating.user}",
        f"GRANT SELECT (id) ON other_db.things TO {rotating.user}",
        "DROP TABLE other_db.gone",
    )
    clone = rotate_to_clone(rotating)
    expected = [each for each in grants(place, rotating.user) if "gone" not in each]
    assert grants(place, clone) == expected
    assert len(expected) == len(grants(place, rotating.user)) - 1
    run(place, "CREATE TABLE other_db.gone (id int, b int)")
    for _ in range(2):
        rotating.converge(attempts=1)
    assert grants(place, clone) == grants(place, rotating.user)


def test_a_clone_gets_no_rights_of_a_user_with_a_similar_name(place, make_rotating):
    rotating = make_rotating(place, True)
    namesake = rotating.user.upper()
    assert namesake != rotating.user
    run(
        place,
        f"CREATE USER {namesake} IDENTIFIED BY 'a-Password-1'",
        f"GRANT SELECT ON secret_db.* TO {namesake}",
        f"GRANT XA_RECOVER_ADMIN, PROCESS ON *.* TO {namesake}",
    )
    clone = rotate_to_clone(rotating)
    assert grants(place, clone) == grants(place, rotating.user)


#: Each of the rights follows another one, and is followed by one.
CHANGES = set(itertools.pairwise([*RIGHTS, next(iter(RIGHTS))]))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(*pair, marks=[] if pair in CHANGES else pytest.mark.exhaustive)
        for pair in itertools.product(RIGHTS, repeat=2)
    ],
)
def test_a_clone_follows_every_change_of_its_base(place, make_rotating, before, after):
    rotating = make_rotating(place, True)
    run(place, *(statement.format(u=rotating.user) for statement in RIGHTS[before][0]))
    clone = rotate_to_clone(rotating)
    with place.as_rdsadmin() as admin:
        admin.run(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {rotating.user}")
        admin.run("CREATE ROLE IF NOT EXISTS clerks")
        # A GRANT without ADMIN OPTION takes it away until the next start only.
        admin.run(f"REVOKE IF EXISTS clerks FROM {rotating.user}")
        admin.run(f"GRANT SELECT, INSERT ON shop.* TO {rotating.user}")
    run(place, *(statement.format(u=rotating.user) for statement in RIGHTS[after][0]))
    token = rotating.begin()
    if rotating.value(rotating.labelled("AWSCURRENT")).user == clone:
        rotating.converge(attempts=1)
        token = rotating.begin()
    assert rotating.invoke("createSecret", token) == "created"
    answer = rotating.invoke("setSecret", token)
    if answer.startswith("failed"):
        # MySQL's rule about an administrator with restrictions, as RDS's is.
        assert "3879" in answer
        run(place, f"DROP USER {clone}")
    rotating.converge(attempts=1)
    assert grants(place, clone) == grants(place, rotating.user)


def test_an_existing_clone_never_reads_what_its_base_may_not(place, make_rotating):
    """Killed at any statement: a global privilege comes before its restriction, while the clone is locked."""
    rotating = make_rotating(place, True)
    clone = rotate_to_clone(rotating)
    password = rotating.value(rotating.labelled("AWSCURRENT")).password
    run(place, *(statement.format(u=rotating.user) for statement in RIGHTS["reads everything but a schema"][0]))
    rotating.converge(attempts=1)
    token = rotating.begin()
    rotating.invoke("createSecret", token)
    for point in range(60):
        fault = Fault(point, "die-after")
        rotating.invoke("setSecret", token, fault)
        for each in (password, rotating.value(token).password):
            with suppress(ConnectionFailed), place.login(Password(clone, each)) as session, pytest.raises(DENIED):
                session.run("SELECT * FROM secret_db.things")
        if not fault.struck:
            break
    else:
        raise AssertionError("more points than were tried")
    assert point > 10
    rotating.converge(attempts=1)
    assert grants(place, clone) == grants(place, rotating.user)


@pytest.mark.parametrize(("keeps", "works"), [(True, [True, False, False]), (False, [False, False, False])])
def test_a_single_users_old_password_ends_with_the_next_rotation_or_at_once(place, make_rotating, keeps, works):
    rotating = make_rotating(place)
    if keeps:
        run(place, f"GRANT {KEEPER} ON *.* TO {rotating.user}")
    leaked = rotating.value(rotating.labelled("AWSCURRENT"))
    found = []
    for _ in works:
        rotating.converge(attempts=1)
        found.append(rotating.logs_in(leaked))
    assert found == works


@pytest.mark.parametrize("turn", [0, 1], ids=["base", "clone"])
def test_of_two_users_a_leaked_password_ends_with_the_second_rotation(place, make_rotating, turn):
    rotating = make_rotating(place, True)
    run(place, f"GRANT {KEEPER} ON *.* TO {rotating.user}")
    for _ in range(2 + turn):
        rotating.converge(attempts=1)
    leaked = rotating.value(rotating.labelled("AWSCURRENT"))
    found = []
    for _ in range(4):
        rotating.converge(attempts=1)
        found.append(rotating.logs_in(leaked))
    assert found == [True, False, False, False]


def test_a_second_password_of_somebody_else_ends_at_the_users_turn(place, make_rotating):
    """Also in the base itself, whose own second password the user may have kept before."""
    rotating = make_rotating(place, True)
    known = rotating.value(rotating.labelled("AWSCURRENT")).password
    rotating.converge(attempts=1)
    run(place, f"ALTER USER {rotating.user} IDENTIFIED BY 'another-1' RETAIN CURRENT PASSWORD")
    assert rotating.password_works(rotating.user, known)
    for point in range(60):
        token = rotating.begin()
        rotating.invoke("createSecret", token)
        fault = Fault(point, "die-after")
        rotating.invoke("setSecret", token, fault)
        if not fault.struck:
            break
    rotating.converge(attempts=1)
    assert not rotating.password_works(rotating.user, known)
    assert not rotating.password_works(rotating.user, "another-1")
    assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))


@pytest.mark.parametrize(("keeps", "connections"), [(False, 2), (True, 3)])
def test_only_an_account_that_may_keep_its_password_costs_another_login(place, make_rotating, keeps, connections):
    rotating = make_rotating(place)
    if keeps:
        run(place, f"GRANT {KEEPER} ON *.* TO {rotating.user}")
    rotation, _, engine = rotating.rotation()
    token = rotating.begin()
    for step in STEPS:
        rotation.run(rotating.request(step, token))
    assert engine.connections == connections


def test_an_account_may_keep_its_password_by_a_role(place, make_rotating):
    rotating = make_rotating(place)
    run(
        place,
        "CREATE ROLE IF NOT EXISTS keepers",
        f"GRANT {KEEPER} ON *.* TO keepers",
        f"GRANT keepers TO {rotating.user}",
        f"SET DEFAULT ROLE keepers TO {rotating.user}",
    )
    old = rotating.value(rotating.labelled("AWSCURRENT"))
    rotating.converge(attempts=1)
    assert rotating.logs_in(old)
    rotating.converge(attempts=1)
    assert not rotating.logs_in(old)


@pytest.mark.parametrize("keeps", [False, True])
def test_an_account_that_needs_its_current_password_rotates(place, make_rotating, keeps):
    rotating = make_rotating(place)
    if keeps:
        run(place, f"GRANT {KEEPER} ON *.* TO {rotating.user}")
    run(place, f"ALTER USER {rotating.user} PASSWORD REQUIRE CURRENT")
    old = rotating.value(rotating.labelled("AWSCURRENT"))
    with place.as_rdsadmin() as admin:
        admin.run("SET GLOBAL log_output = 'FILE'")
        admin.run("SET GLOBAL general_log = ON")
    try:
        rotating.converge(attempts=1)
    finally:
        with place.as_rdsadmin() as admin:
            admin.run("SET GLOBAL general_log = OFF")
    new = rotating.value(rotating.labelled("AWSCURRENT"))
    assert rotating.logs_in(new)
    assert rotating.logs_in(old) is keeps
    files = {path: path.read_bytes() for path in place.server._directory.rglob("*") if path.is_file()}
    assert any(b"REPLACE" in content and rotating.user.encode() in content for content in files.values())
    secret = [old.password.encode(), new.password.encode()]
    assert [path for path, content in files.items() if any(each in content for each in secret)] == []


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("alternating", [False, True], ids=["single", "alternating"])
def test_no_rotation_locks_the_user_that_it_rotates(place, make_rotating, attempts, alternating):
    rotating = make_rotating(place, alternating)
    run(
        place,
        f"GRANT {KEEPER} ON *.* TO {rotating.user}",
        f"ALTER USER {rotating.user} FAILED_LOGIN_ATTEMPTS {attempts} PASSWORD_LOCK_TIME UNBOUNDED",
    )
    for _ in range(3):
        rotating.converge(attempts=1)
        assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))


def test_a_locked_or_blocked_user_is_named_and_nothing_is_lost(place, make_rotating):
    rotating = make_rotating(place)
    token = rotating.begin()
    rotating.invoke("createSecret", token)
    run(place, f"ALTER USER {rotating.user} ACCOUNT LOCK")
    assert "Account is locked" in rotating.invoke("setSecret", token)
    run(place, f"ALTER USER {rotating.user} ACCOUNT UNLOCK FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME UNBOUNDED")
    with pytest.raises(ConnectionFailed, match="blocked"):
        place.login_by_password(rotating.user, "of a stranger")
    assert "Account is blocked" in rotating.invoke("setSecret", token)
    run(place, f"ALTER USER {rotating.user} ACCOUNT UNLOCK")
    rotating.converge(attempts=1)
    assert rotating.logs_in(rotating.value(token))
