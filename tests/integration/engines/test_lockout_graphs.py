"""The guard against lock-out on random graphs of roles: what it foresees is what the server then does.

Each version has its own rules for memberships, and each kind of administrator leaves other memberships behind.
"""

import re
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rdsiam.engines.logins import Password
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import ConnectionFailed, Refused
from tests.examples import at_most
from tests.integration.place import MASTER, MASTER_PASSWORD, Place, user
from tests.kinds import POSTGRES

ROLES = ("r0", "r1", "r2", "r3", "r4")
SECRET = "of-Roles-1"
OPTIONS = ("", "ADMIN", "INHERIT FALSE", "SET FALSE", "INHERIT FALSE, SET FALSE")


@dataclass(frozen=True)
class Grant:
    """A membership that is granted: by RDS itself, or by the master."""

    group: str
    member: str
    options: str
    by_master: bool


grants = st.builds(
    Grant, st.sampled_from(ROLES), st.sampled_from((*ROLES, MASTER)), st.sampled_from(OPTIONS), st.booleans()
)
graphs = st.tuples(
    st.lists(grants, max_size=7),
    st.lists(st.booleans(), min_size=len(ROLES), max_size=len(ROLES)),  # made by the master, or by RDS itself
    st.lists(st.booleans(), min_size=len(ROLES), max_size=len(ROLES)),  # may log in
)


@pytest.fixture(scope="module", params=POSTGRES)
def place(make_place, request) -> Place:
    place: Place = make_place(request.param)
    _, desired = place.converge(DesiredState((user("first", ("shop", "readonly")),), {}))
    place.known |= set(desired.accounts)
    return place


def make(place: Place, graph) -> None:
    """Make the roles and memberships; what the server refuses, for instance a circle, is left out."""
    edges, by_master, logins = graph
    with place.as_rdsadmin() as admin, place.as_master() as master:
        for name, made_by_master, login in zip(ROLES, by_master, logins, strict=True):
            options = f"LOGIN PASSWORD '{SECRET}'" if login else "NOLOGIN"
            (master if made_by_master else admin).run(f"CREATE ROLE {name} {options}")
        for edge in edges:
            options = f" WITH {edge.options}" if edge.options and place.version >= 16 else ""
            if edge.options == "ADMIN":
                options = " WITH ADMIN OPTION"
            try:
                (master if edge.by_master else admin).run(f"GRANT {edge.group} TO {edge.member}{options}")
            except psycopg.Error:
                continue


def clean(place: Place) -> None:
    with place.as_rdsadmin() as admin:
        for name in ROLES:
            admin.run(f"DROP ROLE IF EXISTS {name}")


def with_passwords(place: Place) -> set[str]:
    """Return the roles that log in by password."""
    result = set()
    for name, secret in (*((name, SECRET) for name in ROLES), (MASTER, MASTER_PASSWORD)):
        try:
            place.login(Password(name, secret)).__exit__()
        except ConnectionFailed:
            continue
        result.add(name)
    return result


def named(refused: Refused) -> set[str]:
    """Return the users that a refusal names."""
    return set(re.findall(r"(\w+) \(a member of ", str(refused)))


def check_guard(place: Place, graph, chosen: str) -> None:
    make(place, graph)
    before = with_passwords(place)
    desired = DesiredState((user(chosen, ("shop", "readonly"), adopt=True),), dict.fromkeys(place.known, "created"))
    refusal = None
    try:
        place.converge(desired)
    except Refused as refused:
        refusal = refused
    if refusal is None:
        assert with_passwords(place) == before - {chosen}
        return
    assert refusal.code == "lock-out"
    assert with_passwords(place) == before
    with place.as_rdsadmin() as admin:
        admin.run(f"GRANT rds_iam TO {chosen}")
    # localcloud lets its master log in, whatever it is a member of; no guard may rely on that.
    lost = (before - with_passwords(place) - {chosen}) | ({MASTER} & named(refusal))
    assert lost
    assert named(refusal) == lost


@pytest.mark.hypothesis
def test_no_password_is_lost_but_the_declared_users_and_no_refusal_is_without_a_cause(place):
    @settings(
        max_examples=at_most(12),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )
    @given(graphs, st.sampled_from(ROLES))
    def check(graph, chosen):
        try:
            check_guard(place, graph, chosen)
        finally:
            clean(place)

    check()
