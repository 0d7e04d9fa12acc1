"""The dumps of an upgrade: what is left out of them, and that data are not."""

from localcloud.databases.servers import postgres_upgrade

HEAD = [b"SET statement_timeout = 0;\n", b"SET transaction_timeout = 0;\n", b"SET row_security = off;\n"]
CREATE = (
    b"CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';\n"
)


def test_only_the_two_statements_that_make_rdsadmin_are_left_out():
    lines = [
        b"CREATE ROLE app;\n", b"CREATE ROLE rdsadmin;\n", b"ALTER ROLE rdsadmin WITH SUPERUSER PASSWORD 'SCRAM';\n",
        b"ALTER ROLE app SET search_path TO 'a\n", b"CREATE ROLE rdsadmin;\n", b"';\n",
    ]  # fmt: skip

    assert list(postgres_upgrade._without_rdsadmin(iter(lines))) == [lines[0], *lines[3:]]


def test_an_older_version_gets_no_words_that_it_does_not_know():
    lines = [*HEAD, CREATE, b"\\connect shop\n", *HEAD, b"COPY t FROM stdin;\n", b"SET transaction_timeout = 0;\n"]

    for_13 = list(postgres_upgrade._for_version(iter(lines), 13))

    assert b"LOCALE_PROVIDER" not in b"".join(for_13)
    assert for_13.count(b"SET transaction_timeout = 0;\n") == 1
    assert for_13[-1] == b"SET transaction_timeout = 0;\n", "a row of data"
    assert list(postgres_upgrade._for_version(iter(lines), 18)) == lines


def test_a_name_of_a_database_is_no_connection_string():
    assert postgres_upgrade._conninfo("a=b c") == "dbname='a=b c'"
