"""No user loses its password by the onboarding of another one: PostgreSQL's rule of membership, on a real server."""

import itertools
from dataclasses import replace

import pytest

from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused
from tests.integration.place import Place, user
from tests.kinds import POSTGRES

CASES = {
    # Whoever creates a role is a member of it from PostgreSQL 16 on.
    "the second administrator that made the user": (),
    "a colleague who is a member": ("GRANT victim TO colleague",),
    "a colleague in a group that is a member": ("CREATE ROLE team", "GRANT victim TO team", "GRANT team TO colleague"),
}


@pytest.fixture(scope="module", params=POSTGRES)
def postgres(make_place, request) -> Place:
    place: Place = make_place(request.param)
    with place.as_master() as master:
        master.run("CREATE ROLE second LOGIN CREATEROLE PASSWORD 'second-Password-1'")
        master.run("CREATE ROLE colleague LOGIN PASSWORD 'colleague-Password-1'")
    return place


#: localcloud counts ADMIN OPTION as membership with an administrator like RDS's only.
on_rds = pytest.mark.parametrize("postgres", ["postgres"], indirect=True)


@pytest.mark.parametrize("memberships", CASES.values(), ids=CASES.keys())
def test_a_user_whose_members_would_be_locked_out_is_refused_and_nothing_is_changed(postgres, memberships):
    locked_out = {"second": postgres.version >= 16, "colleague": bool(memberships)}
    if not any(locked_out.values()):
        pytest.skip("before PostgreSQL 16 the creator of a role is no member of it")
    with postgres.login(Password("second", "second-Password-1")) as second:
        second.run("CREATE ROLE victim LOGIN PASSWORD 'victim-Password-1'")
        for statement in memberships:
            second.run(statement)
    try:
        with postgres.as_master() as master:
            before = master.run("SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1"), iam_memberships(postgres)
        with pytest.raises(Refused) as refused:
            postgres.converge(DesiredState((user("victim", ("shop", "readonly"), adopt=True),), {}))
        for name, is_locked_out in locked_out.items():
            assert (f"{name} (a member of " in str(refused.value)) is is_locked_out
        with postgres.as_master() as master:
            after = master.run("SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1"), iam_memberships(postgres)
        assert after == before
        for name in ("second", "colleague", "victim"):
            postgres.login(Password(name, f"{name}-Password-1")).__exit__()
    finally:
        with postgres.login(Password("second", "second-Password-1")) as second:
            second.run("DROP ROLE victim")
            if len(memberships) > 1:
                second.run("DROP ROLE team")


@on_rds
def test_a_master_that_can_not_log_in_afterwards_gets_its_login_back(postgres):
    """RDS counts a membership that no guard of rdsiam counts: the proof of the master's login is the last resort."""
    with postgres.as_rdsadmin() as admin:
        admin.run("CREATE ROLE prized LOGIN PASSWORD 'prized-Password-1'")
        admin.run("GRANT prized TO boss WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    before = iam_memberships(postgres)
    desired = DesiredState(
        (user("prized", ("shop", "readonly"), adopt=True), user("another", ("shop", "readonly"))), {}
    )
    with pytest.raises(Refused) as refused:
        postgres.converge(desired)
    assert refused.value.code == "lock-out"
    assert "boss could no longer log in, so the new memberships in rds_iam were revoked" in refused.value.problem
    assert 'REVOKE "prized" FROM "boss"' in refused.value.remedy
    assert iam_memberships(postgres) == before
    postgres.login(Password("prized", "prized-Password-1")).__exit__()

    with postgres.as_rdsadmin() as admin:
        admin.run('REVOKE "prized" FROM "boss"')
    managed = ("rdsiam_manager", "rdsiam_auditor", "another", "shop_readonly")
    postgres.converge(replace(desired, accounts=dict.fromkeys(managed, "created")), reader="master")
    postgres.as_master().__exit__()
    assert postgres.engine.refuses_passwords(postgres.database, "prized", "shop")


@on_rds
@pytest.mark.parametrize("through", [(), ("between",), ("between", "further")], ids=["directly", "by one", "by two"])
def test_a_master_that_an_adoption_by_the_manager_alone_would_lock_out_keeps_its_login(postgres, through):
    """The manager adopts the user, so no session of the master is needed; its login is proved all the same."""
    staying = user("staying", ("shop", "readonly"))
    managed = ("rdsiam_manager", "rdsiam_auditor", "another", "shop_readonly", "staying")
    known = [name for name in managed if name in existing(postgres)]
    _, desired = postgres.converge(DesiredState((staying,), dict.fromkeys(known, "created")))
    with postgres.as_rdsadmin() as admin:
        admin.run("CREATE ROLE admired LOGIN PASSWORD 'admired-Password-1'")
        chain = ["admired", *through, "boss"]
        for name in through:
            admin.run(f"CREATE ROLE {name}")
        for group, member in itertools.pairwise(chain):
            admin.run(f"GRANT {group} TO {member} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    before = iam_memberships(postgres)
    try:
        with pytest.raises(Refused) as refused:
            postgres.converge(replace(desired, users=(staying, user("admired", ("shop", "readonly"), adopt=True))))
        assert refused.value.code == "lock-out"
        assert iam_memberships(postgres) == before
        postgres.as_master().__exit__()
        postgres.login(Password("admired", "admired-Password-1")).__exit__()
    finally:
        with postgres.as_rdsadmin() as admin:
            admin.run(f"REVOKE rds_iam FROM admired; DROP ROLE {', '.join(chain[:-1])}")


def existing(postgres: Place) -> set[str]:
    with postgres.as_rdsadmin() as admin:
        return {name for [name] in admin.run("SELECT rolname FROM pg_catalog.pg_roles")}


def iam_memberships(postgres: Place) -> object:
    with postgres.as_master() as master:
        return master.run(
            "SELECT member::regrole::text, to_jsonb(m) FROM pg_catalog.pg_auth_members m"
            " WHERE roleid = 'rds_iam'::regrole ORDER BY 1"
        )
