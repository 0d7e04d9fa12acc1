"""A proxy that other machines can reach: TLS and the password are required, whatever a client would do without them."""

from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from localcloud.core.certificates import Authority
from tests.integration.proxy.proxy_process import Printed

ENDED = (psycopg.OperationalError, pymysql.err.OperationalError)
PASSWORD = "correct horse battery staple"
KINDS = ["postgres", "mariadb", pytest.param("mysql", marks=pytest.mark.exhaustive)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with certificate, key and password."""
    folder = tmp_path_factory.mktemp("protected")
    Authority(folder).issue(folder)
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(f"{PASSWORD}\n")
    return folder


@pytest.fixture(scope="module")
def listening(start_proxy, large_table, folder):
    """Return the lines of a proxy on all addresses, by kind."""
    lines: dict[str, Printed] = {}

    def start(kind: str) -> Printed:
        if kind not in lines:
            large_table(kind)
            files = (f"--certificate={folder}/server.pem", f"--key={folder}/server.key")
            password = f"--require-password-file={folder}/secret"
            process = start_proxy(f"{kind}:0", "-u", "app", "-d", "shop", "--host=0.0.0.0", *files, password)
            lines[kind] = process.databases[kind]
        return lines[kind]

    return start


def connect(printed: Printed, password: str, ca: str | None) -> Any:
    """Connect with verified TLS, or without TLS."""
    tls: dict[str, Any]
    if printed.engine == "postgres":
        tls = {"sslmode": "verify-full", "sslrootcert": ca} if ca else {"sslmode": "disable"}
        return psycopg.connect(host="localhost", port=printed.port, user="app", dbname="shop", password=password, **tls)
    tls = {"ssl_ca": ca, "ssl_verify_cert": True, "ssl_verify_identity": True} if ca else {"ssl_disabled": True}
    return pymysql.connect(host="localhost", port=printed.port, user="app", database="shop", password=password, **tls)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_with_tls_and_the_password_works(listening, folder, kind):
    printed = listening(kind)
    assert "HOST" in printed.url
    session = connect(printed, PASSWORD, f"{folder}/ca.pem")
    cursor = session.cursor()
    cursor.execute("SELECT count(*) FROM big")
    assert cursor.fetchone()[0] > 1000
    cursor.execute("SELECT t FROM big")
    assert len(cursor.fetchall()) > 1000
    session.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("password", "tls"), [("wrong", True), ("", True), (PASSWORD, False)], ids=["wrong", "none", "without TLS"]
)
def test_any_other_client_is_refused(listening, api, folder, kind, password, tls):
    printed = listening(kind)
    given = api.given.total()
    with pytest.raises(ENDED) as error:
        connect(printed, password, f"{folder}/ca.pem" if tls else None)
    assert PASSWORD not in str(error.value)
    assert api.given.total() == given
