"""Rotation's four steps on real servers, one invocation at a time."""

import pytest

from rdsiam.engines.logins import Password
from rdsiam.engines.mysql.passwords import native_hash
from rdsiam.events.rotate import STEPS
from tests.integration.place import MASTER
from tests.integration.rotation.rotating import Fault, Rotating, create_user
from tests.kinds import MYSQL_FAMILY, POSTGRES

# `make test` runs these on two of PostgreSQL's servers; test_rights.py is about the rights in which the third differs.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14")

LOGS_ON = {
    "postgres": ["ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_min_error_statement = 'error'",
                 "ALTER SYSTEM SET log_min_duration_statement = 0", "SELECT pg_reload_conf()"],
    "mysql": ["SET GLOBAL general_log_file = 'general.log'", "SET GLOBAL general_log = ON",
              "SET GLOBAL slow_query_log = ON", "SET GLOBAL long_query_time = 0"],
}  # fmt: skip
LOGS_OFF = {
    "postgres": ["ALTER SYSTEM RESET log_statement", "ALTER SYSTEM RESET log_min_error_statement",
                 "ALTER SYSTEM RESET log_min_duration_statement", "SELECT pg_reload_conf()"],
    "mysql": ["SET GLOBAL general_log = OFF", "SET GLOBAL slow_query_log = OFF", "SET GLOBAL long_query_time = 10"],
}  # fmt: skip


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture(params=[False, True], ids=["single", "alternating"])
def rotating(request, place, make_rotating) -> Rotating:
    made: Rotating = make_rotating(place, request.param)
    return made


def test_the_four_steps_change_the_password(rotating):
    before = rotating.value(rotating.labelled("AWSCURRENT"))
    token = rotating.begin()
    assert [rotating.invoke(step, token) for step in STEPS] == ["created", "set", "tested", "finished"]
    after = rotating.value(rotating.labelled("AWSCURRENT"))
    assert rotating.labelled("AWSCURRENT") == token
    assert rotating.labelled("AWSPENDING") is None
    assert rotating.logs_in(after)
    assert after.password != before.password
    if rotating.alternating:
        assert after.user == before.user + "_clone"
        assert rotating.logs_in(before)
    else:
        assert after.user == before.user
        assert not rotating.logs_in(before)


def test_an_administrator_logs_in_to_no_database_that_a_secret_names(place, make_rotating):
    rotating = make_rotating(place, alternating=True)
    token = rotating.begin()
    rotation, _, engine = rotating.rotation()
    for step in STEPS:
        rotation.run(rotating.request(step, token))
    assert engine.logins == [(MASTER, "postgres"), (f"{rotating.user}_clone", "shop")]


def test_many_rotations_follow_each_other(rotating):
    names = []
    for _ in range(3):
        rotating.converge(attempts=1)
        names.append(rotating.value(rotating.labelled("AWSCURRENT")).user)
        assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))
    base = rotating.user
    assert names == ([base + "_clone", base, base + "_clone"] if rotating.alternating else [base] * 3)


# MySQL gets the password itself: test_no_file_of_the_server_holds_a_password shows that it keeps it nowhere.
@pytest.mark.parametrize("place", ["postgres", "mariadb"], indirect=True)
def test_no_statement_holds_the_password(rotating):
    fault = Fault()
    rotation = rotating.rotation(fault)[0]
    token = rotating.begin()
    for step in STEPS:
        rotation.run(rotating.request(step, token))
    new = rotating.value(token)
    assert any("PASSWORD" in statement for statement in fault.statements)
    assert not [statement for statement in fault.statements if new.password in statement]


@pytest.mark.parametrize(("cold", "connections", "calls"), [(False, 2, (11, 12)), (True, 3, (16, 17))])
def test_a_rotation_needs_no_more_calls_and_connections_than_promised(rotating, cold, connections, calls):
    used = [rotating.rotation()]
    token = rotating.begin()
    for step in STEPS:
        if cold:
            used.append(rotating.rotation())
        used[-1][0].run(rotating.request(step, token))
    assert sum(engine.connections for _, _, engine in used) == connections
    in_all = sum(len(client.calls) for _, client, _ in used) + rotating.databases.asked
    assert in_all == calls[rotating.alternating]


@pytest.mark.exhaustive_on("vanilla", "postgres14", "mariadb", "mysql", "single")
def test_a_process_that_is_killed_at_any_point_stops_no_rotation(rotating, die_at):
    killed = 0
    for step in STEPS:
        for point in range(30):
            token = rotating.begin()
            for earlier in STEPS[: STEPS.index(step)]:
                assert not rotating.invoke(earlier, token).startswith("failed")
            died = die_at(rotating, step, token, point)
            current = rotating.value(rotating.labelled("AWSCURRENT"))
            pending = rotating.value(rotating.labelled("AWSPENDING"))
            assert rotating.logs_in(current) or (not rotating.alternating and rotating.logs_in(pending))
            rotating.converge(attempts=1)
            assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))
            if not died:
                break
            killed += 1
        else:
            raise AssertionError("more points than were tried")
    assert killed > 8


def test_a_login_by_token_is_never_answered_with_the_password(rotating, place):
    with place.as_master() as master:
        if place.database.family == "postgres":
            master.run(f"GRANT rds_iam TO {rotating.user}")
        else:
            master.run(f"ALTER USER '{rotating.user}'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
    token = rotating.begin()
    rotating.invoke("createSecret", token)
    answer = rotating.invoke("setSecret", token)
    assert "logs in by token" in answer
    assert rotating.labelled("AWSCURRENT") != token


def test_a_clone_gets_what_its_base_was_granted_since_and_loses_what_was_revoked(place, make_rotating):
    rotating = make_rotating(place, True)
    base, clone = rotating.user, rotating.user + "_clone"
    rotating.converge()
    with place.as_master() as master:
        master.run(f"CREATE TABLE of_{base} (id int, secret int)")
        if place.database.family == "postgres":
            master.run(f"GRANT SELECT (id) ON of_{base} TO {base}")
            master.run(f"ALTER ROLE {base} SET search_path TO odd, public")
            master.run(f"ALTER ROLE {base} IN DATABASE shop SET statement_timeout TO '7s'")
        else:
            master.run(f"GRANT SELECT (id) ON shop.of_{base} TO '{base}'@'%'")
            master.run(f"REVOKE INSERT ON shop.* FROM '{base}'@'%'")
            master.run(f"CREATE ROLE role_{base}")
            master.run(f"GRANT role_{base} TO '{base}'@'%'")
    rotating.converge()
    rotating.converge()
    current = rotating.value(rotating.labelled("AWSCURRENT"))
    assert current.user == clone
    with place.login(Password(clone, current.password)) as session:
        session.run(f"SELECT id FROM of_{base}")
        if place.database.family == "postgres":
            assert session.run("SELECT current_user, session_user") == [(base, clone)]
            assert session.run("SHOW statement_timeout") == [("7s",)]
            settings = session.run(
                "SELECT s.setdatabase <> 0, s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole "
                f"WHERE r.rolname = '{clone}' ORDER BY 1"
            )
            assert settings == [(False, [f"role={base}", "search_path=odd, public"]), (True, ["statement_timeout=7s"])]
        else:
            grants = " ".join(row[0] for row in session.run("SHOW GRANTS"))
            assert "INSERT" not in grants
            assert f"`role_{base}`" in grants


@pytest.mark.parametrize("steps", [1, 2], ids=["before", "after"])
def test_a_secret_that_is_put_back_before_or_after_the_other_users_turn_still_rotates(place, make_rotating, steps):
    rotating = make_rotating(place, True)
    first = rotating.labelled("AWSCURRENT")
    second = rotating.converge()
    token = rotating.begin()
    for step in STEPS[:steps]:
        rotating.invoke(step, token)
    rotating.client.update_secret_version_stage(
        SecretId=rotating.arn, VersionStage="AWSCURRENT", MoveToVersionId=first, RemoveFromVersionId=second
    )
    rotating.converge()
    assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))


def test_no_file_of_the_server_holds_a_password(rotating, place):
    """With all logs on that there are; a statement that fails is logged too."""
    rotating.converge()
    with place.as_rdsadmin() as administrator:
        for statement in LOGS_ON[place.database.family]:
            administrator.run(statement)
    try:
        token = rotating.begin()
        rotating.invoke("createSecret", token)
        # What is sent, but not committed, is logged all the same.
        for point in range(30):
            fault = Fault(point, "cut-after")
            rotating.invoke("setSecret", token, fault)
            if not fault.struck:
                break
        rotating.converge()
    finally:
        with place.as_rdsadmin() as administrator:
            for statement in LOGS_OFF[place.database.family]:
                administrator.run(statement)
    new = rotating.value(token)
    files = {path: path.read_bytes() for path in place.server._directory.rglob("*") if path.is_file()}
    assert [path for path, content in files.items() if new.password.encode() in content] == []
    (log,) = [content for path, content in files.items() if path.name in {"postgres.log", "general.log"}]
    assert new.user.encode() in log
    shown = {
        "postgres": "SCRAM-SHA-256$4096:",
        "mariadb": native_hash(new.password),
        "mysql": "<secret>",  # MySQL gets the password itself, and hides it in its logs
    }
    assert shown[place.database.engine].encode() in log


def test_a_namesake_of_the_clone_is_left_alone(place, make_rotating):
    rotating = make_rotating(place, True)
    clone = rotating.user + "_clone"
    create_user(place, clone, "of-somebody-else-1")
    with place.as_master() as master:
        if place.database.family == "mysql":
            master.run(f"REVOKE SELECT, INSERT ON shop.* FROM '{clone}'@'%'")
            master.run(f"GRANT SELECT ON mysql.user TO '{clone}'@'%'")
    token = rotating.begin()
    rotating.invoke("createSecret", token)
    assert "clone; rename or drop it" in rotating.invoke("setSecret", token)
    assert rotating.password_works(clone, "of-somebody-else-1")


def test_a_server_that_stops_during_a_rotation_delays_it_only(rotating, place):
    token = rotating.begin()
    assert [rotating.invoke(step, token) for step in STEPS[:2]] == ["created", "set"]
    place.server.stop()
    assert "failed at port" in rotating.invoke("testSecret", token)
    assert "failed at port" in rotating.invoke("finishSecret", token)
    place.server.start()
    rotating.converge(attempts=1)
    assert rotating.logs_in(rotating.value(token))
