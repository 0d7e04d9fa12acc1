"""No user loses its password by the onboarding of another one: PostgreSQL's rule of membership, on a real server."""

import pytest

from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused
from tests.integration.place import Place, user

CASES = {
    "the second administrator that made the user": (),
    "a colleague who is a member": ("GRANT victim TO colleague",),
    "a colleague in a group that is a member": ("CREATE ROLE team", "GRANT victim TO team", "GRANT team TO colleague"),
}


@pytest.fixture(scope="module")
def postgres(make_place) -> Place:
    place = make_place("postgres")
    with place.as_master() as master:
        master.run("CREATE ROLE second LOGIN CREATEROLE PASSWORD 'second-Password-1'")
        master.run("CREATE ROLE colleague LOGIN PASSWORD 'colleague-Password-1'")
    return place


@pytest.mark.parametrize("memberships", CASES.values(), ids=CASES.keys())
def test_a_user_whose_members_would_be_locked_out_is_refused_and_nothing_is_changed(postgres, memberships):
    with postgres.login(Password("second", "second-Password-1")) as second:
        second.run("CREATE ROLE victim LOGIN PASSWORD 'victim-Password-1'")
        for statement in memberships:
            second.run(statement)
    with postgres.as_master() as master:
        roles = master.run("SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1")
    with pytest.raises(Refused, match="second \\(a member of victim\\)") as refused:
        postgres.converge(DesiredState((user("victim", ("shop", "readonly"), adopt=True),), {}))
    if memberships:
        assert "colleague (a member of" in str(refused.value)
    with postgres.as_master() as master:
        assert master.run("SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1") == roles
        assert master.run(
            "SELECT count(*) FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r"
            " ON r.oid = m.roleid WHERE r.rolname = 'rds_iam' AND m.inherit_option"
        ) == [(0,)]
    for name in ("second", "colleague", "victim"):
        postgres.login(Password(name, f"{name}-Password-1")).__exit__()
    with postgres.login(Password("second", "second-Password-1")) as second:
        second.run("DROP ROLE victim")
        if len(memberships) > 1:
            second.run("DROP ROLE team")
