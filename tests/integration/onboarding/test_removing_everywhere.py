"""A user who is revoked has no session left anywhere: not on a read replica either, and not by holding what locks."""

import copy
import time
from typing import Any

import psycopg
import pymysql
import pytest

from tests.integration.account import Connection, until
from tests.kinds import MYSQL_EXHAUSTIVE

pytestmark = pytest.mark.exhaustive_on("mariadb")

ENDED = (psycopg.OperationalError, pymysql.MySQLError)


@pytest.fixture(scope="module", params=["postgres", "mariadb", MYSQL_EXHAUSTIVE])
def place(account, request) -> dict[str, Any]:
    """Return a database and its read replica, on which one role may log in as the same users."""
    engine = request.param
    signing = account.make_role(f"everywhere-{engine}")
    users = [{"name": name, "privileges": "readonly", "on": ["shop"], "roles": [signing]} for name in ("goes", "stays")]
    for name in (f"everywhere-{engine}", f"everywhere-{engine}-copy"):
        account.declare(name, *copy.deepcopy(users))
    source = account.create(f"everywhere-{engine}", engine)
    account.wait_onboarded(source, 90)
    account.cloud.client("rds").create_db_instance_read_replica(
        DBInstanceIdentifier=f"everywhere-{engine}-copy",
        SourceDBInstanceIdentifier=f"everywhere-{engine}",
        EnableIAMDatabaseAuthentication=True,
    )
    replica = source + "-copy"
    account.wait_onboarded(replica, 90)
    return {"engine": engine, "source": source, "replica": replica, "signing": signing}


def log_in(account, place, where: str, user: str) -> Connection:
    credentials = account.assume(place["signing"])
    session: Connection = account.connect(place[where], user, account.token(place[where], user, credentials))
    return session


def ended(session: Connection) -> bool:
    try:
        session.run("SELECT 1")
    except ENDED:
        return True
    return False


def revoke(account, arn: str, **request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = account.invoke("OnboardFunction", {"database": arn} | request)
    return answer


def test_sessions_on_a_read_replica_end_when_the_user_is_revoked_on_its_source(account, place):
    session, other = log_in(account, place, "replica", "goes"), log_in(account, place, "replica", "stays")
    answer = revoke(account, place["source"], revoke=["goes"], reason="key leaked")
    assert answer["status"] == "revoked", answer
    name = place["replica"].rpartition(":")[2]
    assert ("end-sessions", f"goes on {name}") in [(each["kind"], each["target"]) for each in answer["changes"]]
    until(lambda: ended(session), 10)
    other.run("SELECT 1")
    token = account.token(place["replica"], "goes", account.assume(place["signing"]))
    assert account.refused(place["replica"], "goes", token), "it is locked there too"
    assert revoke(account, place["source"], lift=["goes"])["status"] == "onboarded"
    other.close()


def test_sessions_on_a_read_replica_end_when_the_user_is_revoked_there(account, place):
    session, on_source = log_in(account, place, "replica", "goes"), log_in(account, place, "source", "goes")
    answer = revoke(account, place["replica"], revoke=["goes"], reason="key leaked")
    assert answer["status"] == "revoked", answer
    assert "disable-user" not in [each["kind"] for each in answer["changes"]], "the source's users stay as they are"
    until(lambda: ended(session), 10)
    on_source.run("SELECT 1")
    token = account.token(place["replica"], "goes", account.assume(place["signing"]))
    assert account.refused(place["replica"], "goes", token), "its role may sign no more for the replica"
    assert revoke(account, place["replica"], lift=["goes"])["status"] in {"onboarded", "unchanged"}
    on_source.close()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_a_user_that_holds_its_own_row_is_revoked(account, place):
    """On 8ce2520 revoking ended after two minutes with an error, and the session lived on."""
    session = log_in(account, place, "source", "goes")
    session.run("BEGIN")
    session.run("ALTER ROLE goes PASSWORD 'whatever'")
    began = time.monotonic()
    answer = revoke(account, place["source"], revoke=["goes"], reason="stolen laptop")
    assert answer["status"] == "revoked", answer
    assert time.monotonic() - began < 60
    assert ended(session)
    assert revoke(account, place["source"], lift=["goes"])["status"] == "onboarded"
