"""MySQL's engine of the proxy with real servers and clients that know nothing of tokens."""

import pymysql
import pytest

from rdsiam.proxy.mysql.engine import MySQLEngine
from rdsiam.tokens import trust
from tests.integration.proxy.postgres_proxy import StubUpstream, running_proxy
from tests.kinds import MYSQL_FAMILY


@pytest.fixture(scope="module", params=MYSQL_FAMILY)
def server(request, make_place):
    place = make_place(request.param)
    with place.as_rdsadmin() as rdsadmin:
        rdsadmin.run("CREATE USER app@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL")
        rdsadmin.run("GRANT ALL ON shop.* TO app@'%'")
        rdsadmin.run("CREATE USER human@'%' IDENTIFIED BY 'a password of a human'")
    return place


@pytest.fixture
def upstream(server):
    return StubUpstream("localhost", trust.ca_file(), [("127.0.0.1", server.database.port)])


@pytest.fixture
def proxy(upstream):
    with running_proxy(upstream, engine=MySQLEngine()) as proxy:
        yield proxy


def connect(proxy, user="app", password="", **more):
    return pymysql.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, connect_timeout=20, **more)


def ask(connection, statement="SELECT CURRENT_USER()"):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


@pytest.mark.parametrize("password", ["", "any"])
def test_a_client_logs_in_whatever_its_password(proxy, password):
    with connect(proxy, password=password, database="shop") as connection:
        assert ask(connection, "SELECT CURRENT_USER(), DATABASE(), CONNECTION_ID()") == (
            ("app@%", "shop", connection.thread_id()),
        )


@pytest.mark.parametrize("user", ["human", "nobody at all"])
def test_the_user_of_a_password_gets_no_token_and_a_reason(proxy, user):
    with pytest.raises(pymysql.OperationalError, match=f"1045.*{user}.*asks for no token.*rdsiam doctor"):
        connect(proxy, user)
    assert proxy.refusals
