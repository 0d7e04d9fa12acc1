"""Replication by token, which the parameter rds.iam_auth_for_replication allows: a change stream of a real server."""

import psycopg
import pytest

from rdsiam.engines.logins import AUDITOR, Password, Token
from rdsiam.engines.protocols import DesiredState
from rdsiam.errors import Refused
from tests.integration.place import Place, user

PASSWORD = "correct-Password-1"


@pytest.fixture(scope="module")
def postgres(make_place) -> Place:
    """Return a server with logical replication, and users that replicate: by token, by password, to be adopted."""
    place: Place = make_place("postgres")
    place.server.set_parameters({"rds.logical_replication": "1"})
    place.server.stop()
    place.server.start()
    place.server.set_iam(True)
    with place.as_master() as master:
        for name in ("by_token", "by_password", "adopted"):
            master.run(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        master.run("GRANT rds_iam TO by_token")
    with place.as_rdsadmin("postgres") as rdsadmin:
        for name in ("by_token", "by_password", "adopted"):
            rdsadmin.run(f"ALTER ROLE {name} REPLICATION")
    return place


def replicates(postgres: Place, name: str, secret: str, kind: str = "database") -> bool:
    """Return whether a replication connection is let in, and not refused by the server's rules."""
    try:
        address = postgres.server.address
        psycopg.connect(
            host=address.host, port=address.port, user=name, password=secret, dbname="shop",
            sslmode="require", replication=kind, connect_timeout=10,
        ).close()  # fmt: skip
    except psycopg.OperationalError as error:
        if not any(text in str(error) for text in ("no pg_hba.conf entry for replication", "authentication failed")):
            raise
        return False
    return True


def set_parameter(postgres: Place, value: str) -> None:
    postgres.server.set_parameters({"rds.iam_auth_for_replication": value})


def test_tokens_replicate_as_the_parameter_says(postgres):
    set_parameter(postgres, "0")
    assert not replicates(postgres, "by_token", "token-of-by_token")
    assert replicates(postgres, "by_password", PASSWORD)
    set_parameter(postgres, "1")
    assert replicates(postgres, "by_token", "token-of-by_token")
    assert replicates(postgres, "by_password", PASSWORD), "a user without rds_iam keeps its password"
    assert not replicates(postgres, "by_token", PASSWORD), "a user with rds_iam must use a token"
    assert not replicates(postgres, "by_token", "token-of-by_token", kind="true"), "RDS has no physical replication"


def test_the_audit_and_onboarding_follow_the_server(postgres):
    adopting = DesiredState((user("adopted", ("shop", "readonly"), adopt=True),), {})
    set_parameter(postgres, "0")
    with pytest.raises(Refused, match=r"adopted replicates by its password.*rds\.iam_auth_for_replication"):
        postgres.converge(adopting)
    assert replicates(postgres, "adopted", PASSWORD)
    set_parameter(postgres, "1")
    postgres.converge(adopting)
    assert replicates(postgres, "adopted", "token-of-adopted")
    for value in ("1", "0"):
        set_parameter(postgres, value)
        session = postgres.engine.connect(postgres.database, Token(AUDITOR, f"token-of-{AUDITOR}"), None)
        facts = postgres.engine.audit(session, postgres.database)
        session.close()
        assert facts.replication_by_token is (value == "1")
        assert {each.name for each in facts.accounts if each.replication} == {"adopted", "by_password", "by_token"}
    with postgres.login(Password("by_password", PASSWORD)) as client:
        assert client.run("SHOW wal_level") == [("logical",)]
