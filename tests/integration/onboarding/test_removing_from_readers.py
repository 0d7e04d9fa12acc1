"""A revoked user has no session left on any reader of a cluster, whatever happens to the members meanwhile."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pymysql
import pytest

from tests.integration.account import Account, Connection, until
from tests.integration.databases import CLASS, Databases

pytestmark = pytest.mark.exhaustive_on("mysql")

ENDED = (psycopg.OperationalError, pymysql.MySQLError)


class Cluster:
    """A cluster that is onboarded with two users, `goes` and `stays`, of one role.

    :ivar arn: the cluster's.
    """

    def __init__(self, account: Account, databases: Databases, engine: str) -> None:
        self.account = account
        self.databases = databases
        self.name = f"readers-{engine}"
        self.engine = engine
        self.role = account.make_role(self.name)
        self.declare("goes", "stays")
        databases.make_cluster(self.name, engine, members=3, DatabaseName="shop")
        self.arn = str(self.describe()["DBClusterArn"])
        account.wait_onboarded(self.arn, 120)
        databases.available(*self.members())

    def declare(self, *names: str) -> None:
        """Declare these users of the cluster."""
        users = [{"name": name, "privileges": "readonly", "on": ["shop"], "roles": [self.role]} for name in names]
        self.account.declare(self.name, *users)

    def describe(self) -> dict[str, Any]:
        """Return the cluster as RDS describes it."""
        return self.databases.cluster(self.name)

    def members(self) -> list[str]:
        """Return the identifiers of all members, the writer's first."""
        members = sorted(self.describe()["DBClusterMembers"], key=lambda member: not member["IsClusterWriter"])
        return [member["DBInstanceIdentifier"] for member in members]

    def readers(self) -> list[str]:
        """Return the identifiers of the readers."""
        return self.members()[1:]

    def arn_of(self, member: str) -> str:
        """Return the ARN of a member."""
        return str(self.databases.instance(member)["DBInstanceArn"])

    def log_in(self, member: str, user: str) -> Connection:
        """Log in at a member's own endpoint, by a token of the role."""
        arn = self.arn_of(member)
        return self.account.connect(arn, user, self.token(arn, user))

    def refuses(self, member: str, user: str) -> bool:
        """Return whether a member refuses a fresh token of the role."""
        arn = self.arn_of(member)
        return self.account.refused(arn, user, self.token(arn, user))

    def token(self, arn: str, user: str) -> str:
        """Return a token of the role."""
        return self.account.token(arn, user, self.account.assume(self.role))

    def revoke(self, **request: Any) -> dict[str, Any]:
        """Revoke users, or lift a revocation."""
        answer: dict[str, Any] = self.account.invoke("OnboardFunction", {"database": self.arn} | request)
        return answer

    def assert_removed(self, sessions: Mapping[str, Connection], seconds: float = 60) -> None:
        """Check that `goes` has no session on any member, and can't log in again."""
        until(lambda: all(ended(session) for session in sessions.values()), seconds)
        until(lambda: all(self.refuses(member, "goes") for member in self.members()), seconds)
        record = self.account.record(self.arn) or {}
        until(lambda: "goes" not in (self.account.record(self.arn) or {}).get("leaving", {}).get("M", {}), seconds)
        assert "goes" in record["revoked"]["M"]


@pytest.fixture(scope="module", params=["aurora-postgresql", "aurora-mysql"])
def cluster(account: Account, databases: Databases, request) -> Iterator[Cluster]:
    """Return an onboarded cluster with a writer and two readers."""
    made = Cluster(account, databases, request.param)
    yield made
    databases.drop(*reversed(made.members()))
    databases.rds.delete_db_cluster(DBClusterIdentifier=made.name, SkipFinalSnapshot=True)


@pytest.fixture
def sessions(cluster: Cluster) -> Iterator[dict[str, Connection]]:
    """Return a session of `goes` on each member, by its identifier."""
    opened = {member: cluster.log_in(member, "goes") for member in cluster.members()}
    yield opened
    until(lambda: cluster.describe()["Status"] == "available", 30)
    assert cluster.revoke(lift=["goes"])["status"] in {"onboarded", "unchanged"}
    for session in opened.values():
        session.close()


def test_sessions_on_all_readers_end_when_the_user_is_revoked(cluster, sessions):
    others = [cluster.log_in(member, "stays") for member in cluster.members()]
    answer = cluster.revoke(revoke=["goes"], reason="key leaked")
    assert answer["status"] == "revoked", answer
    done = [(change["kind"], change["target"]) for change in answer["changes"]]
    assert {("end-sessions", f"goes on {reader}") for reader in cluster.readers()} <= set(done)
    assert all(ended(session) for session in sessions.values())
    assert all(cluster.refuses(member, "goes") for member in cluster.members())
    for other in others:
        other.run("SELECT 1")
        other.close()


@pytest.mark.exhaustive
def test_sessions_on_all_readers_end_when_the_user_is_declared_no_longer(cluster, sessions):
    cluster.declare("stays")
    try:
        answer = cluster.account.onboard(cluster.arn, confirm=True)
        assert answer["status"] == "onboarded", answer
        assert all(ended(session) for session in sessions.values())
        assert all(cluster.refuses(member, "goes") for member in cluster.members())
    finally:
        cluster.declare("goes", "stays")


def test_readers_are_visited_if_iam_authentication_was_switched_off(cluster, sessions):
    switch_iam(cluster, False)
    try:
        answer = cluster.revoke(revoke=["goes"], reason="key leaked")
        # MySQL alters no account whose plugin is not loaded, nor does it let the user in.
        assert answer["status"] == ("incomplete" if "mysql" in cluster.engine else "revoked"), answer
        assert all(ended(session) for session in sessions.values())
        ends = [change for change in answer["changes"] if change["kind"] == "end-sessions"]
        assert {change["authority"] for change in ends} == {"master"}
    finally:
        switch_iam(cluster, True)
    assert cluster.account.onboard(cluster.arn)["status"] in {"onboarded", "unchanged"}
    cluster.assert_removed(sessions)


@pytest.mark.exhaustive
def test_a_reader_that_hangs_delays_neither_the_writer_nor_other_readers_and_is_tried_again(cluster, sessions):
    writer, hanging, other = cluster.members()
    server = cluster.databases.process(hanging)
    server.suspend()
    try:
        with ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            answer = pool.submit(cluster.revoke, revoke=["goes"], reason="key leaked")
            until(lambda: ended(sessions[writer]) and ended(sessions[other]), 30)
            assert time.monotonic() - began < 30
            assert cluster.refuses(writer, "goes")
            server.resume()
            assert answer.result()["status"] == "revoked", answer.result()
    finally:
        server.resume()
    cluster.assert_removed(sessions)


@pytest.mark.exhaustive
def test_a_reader_that_was_killed_is_named_until_it_is_back(cluster, sessions):
    writer, killed, other = cluster.members()
    cluster.databases.process(killed).kill()
    answer = cluster.revoke(revoke=["goes"], reason="key leaked")
    assert answer["status"] == "incomplete", answer
    assert [each["what"] for each in answer["incomplete"]] == [cluster.arn_of(killed)]
    assert ended(sessions[writer])
    assert ended(sessions[other])
    cluster.databases.rds.reboot_db_instance(DBInstanceIdentifier=killed)
    cluster.databases.available(killed)
    assert cluster.account.onboard(cluster.arn)["status"] in {"onboarded", "unchanged"}
    cluster.assert_removed(sessions)


@pytest.mark.exhaustive
def test_a_member_that_joins_during_a_revocation_does_not_know_the_user(cluster, sessions):
    joining = f"{cluster.name}-joins"
    cluster.databases.rds.create_db_instance(
        DBInstanceIdentifier=joining, DBInstanceClass=CLASS, Engine=cluster.engine, DBClusterIdentifier=cluster.name
    )
    answer = cluster.revoke(revoke=["goes"], reason="key leaked")
    assert {each["what"] for each in answer.get("incomplete", ())} <= {cluster.arn_of(joining)}
    cluster.databases.available(joining)
    assert cluster.refuses(joining, "goes")
    assert cluster.account.onboard(cluster.arn)["status"] in {"onboarded", "unchanged"}
    cluster.assert_removed(sessions)
    cluster.databases.drop(joining)


@pytest.mark.exhaustive
def test_a_failover_during_a_revocation_leaves_the_user_nothing(cluster, sessions):
    cluster.databases.rds.failover_db_cluster(DBClusterIdentifier=cluster.name)
    answer = cluster.revoke(revoke=["goes"], reason="key leaked")
    assert answer["status"] == "revoked", answer
    cluster.assert_removed(sessions)


@pytest.mark.exhaustive
def test_members_of_a_stopped_cluster_are_named_and_have_forgotten_the_user_once_it_starts(cluster, sessions):
    rds = cluster.databases.rds
    rds.stop_db_cluster(DBClusterIdentifier=cluster.name)
    until(lambda: cluster.describe()["Status"] == "stopped", 30)
    answer = cluster.revoke(revoke=["goes"], reason="key leaked")
    assert answer["status"] == "incomplete", answer
    named = {each["what"] for each in answer["incomplete"]}
    assert named == {cluster.arn, *(cluster.arn_of(member) for member in cluster.readers())}
    rds.start_db_cluster(DBClusterIdentifier=cluster.name)
    until(lambda: cluster.describe()["Status"] == "available", 30)
    cluster.assert_removed(sessions, 120)  # by the event of the start


def switch_iam(cluster: Cluster, enabled: bool) -> None:
    """Switch IAM authentication of all members."""
    cluster.databases.rds.modify_db_cluster(
        DBClusterIdentifier=cluster.name, EnableIAMDatabaseAuthentication=enabled, ApplyImmediately=True
    )
    until(lambda: cluster.describe()["IAMDatabaseAuthenticationEnabled"] == enabled, 30)


def ended(session: Connection) -> bool:
    """Return whether the session has ended."""
    try:
        session.run("SELECT 1")
    except ENDED:
        return True
    return False
