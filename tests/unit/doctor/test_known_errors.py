"""Explanations of pasted error messages, as servers, drivers and tools print them."""

import pytest
from click.testing import CliRunner

from rdsiam.command.app import app
from rdsiam.doctor.known_error import Certainty
from rdsiam.doctor.known_errors import KNOWN_ERRORS, explain

HOST = "orders.c9akciq32.eu-central-1.rds.amazonaws.com"
#: Texts as clients print them, and a word of the best explanation.
OF_CLIENTS = {
    "psql: both tries": (
        f'psql: error: connection to server at "{HOST}" (10.0.0.1), port 5432 failed: FATAL:  PAM authentication '
        f'failed for user "app"\nconnection to server at "{HOST}" (10.0.0.1), port 5432 failed: FATAL:  pg_hba.conf '
        'rejects connection for host "10.0.0.9", user "app", database "shop", no encryption',
        "token was refused",
    ),
    "psql: the order of the tries changes nothing": (
        'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "app", database "shop", no encryption\n'
        'FATAL:  password authentication failed for user "app"',
        "not in rds_iam",
    ),
    "psql: port 1045": (
        f'connection to server at "{HOST}" (10.0.0.1), port 1045 failed: Connection refused', "nothing answers"
    ),
    "psql: a reader": ("ERROR:  cannot execute CREATE TABLE in a read-only transaction", "on a reader"),
    "pgjdbc: authority": (
        "org.postgresql.util.PSQLException: SSL error: PKIX path building failed: sun.security.provider.certpath."
        "SunCertPathBuilderException: unable to find valid certification path to requested target",
        "certificate authorities",
    ),
    "pgjdbc: name": (
        "PSQLException: The hostname 127.0.0.1 could not be verified by hostnameverifier PgjdbcHostnameVerifier.",
        "for the endpoint",
    ),
    "pgjdbc: no password": (
        "The server requested SCRAM-based authentication, but no password was provided.", "sent no password"
    ),
    "pgjdbc: refused": (
        f"Connection to {HOST}:5432 refused. Check that the hostname and port are correct", "nothing answers"
    ),
    "pgjdbc: slots": (
        "FATAL: remaining connection slots are reserved for roles with the SUPERUSER attribute", "max_connections"
    ),
    "npgsql: token": (
        'Npgsql.PostgresException (0x80004005): 28000: PAM authentication failed for user "app"', "token was refused"
    ),
    "npgsql: password": (
        "Npgsql.NpgsqlException (0x80004005): No password has been provided but the backend requires one (in "
        "SASL/SCRAM-SHA-256)",
        "sent no password",
    ),
    "npgsql: authority": (
        "System.Security.Authentication.AuthenticationException: The remote certificate is invalid according to the "
        "validation procedure.",
        "certificate authorities",
    ),
    "node-postgres: a promise": (
        "Error: SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string", "sent no password"
    ),
    "node: authority": ("Error: self-signed certificate in certificate chain\n  code: 'SELF_SIGNED_CERT_IN_CHAIN'",
                        "certificate authorities"),
    "node: name": ("Error [ERR_TLS_CERT_ALTNAME_INVALID]: Hostname/IP does not match certificate's altnames",
                   "for the endpoint"),
    "pgx: password": (
        'failed to connect to `user=app database=shop`: 10.0.0.1:5432 (x): failed SASL auth: FATAL: password '
        'authentication failed for user "app" (SQLSTATE 28P01)',
        "not in rds_iam",
    ),
    "pgx: authority": ("tls: failed to verify certificate: x509: certificate signed by unknown authority",
                       "certificate authorities"),
    "pgx: name": ("x509: certificate is valid for a.rds.amazonaws.com, not db.example.com", "for the endpoint"),
    "lib/pq: no TLS": ("pq: SSL is not enabled on the server", "offers no TLS"),
    "sqlx: authority": ("error communicating with database: invalid peer certificate: UnknownIssuer",
                        "certificate authorities"),
    "Python: name before authority": (
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, "
        "certificate is not valid for 'db.corp'. (_ssl.c:1006)",
        "for the endpoint",
    ),
    "Python: address before authority": (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address mismatch, certificate is not valid for "
        "'127.0.0.1'. (_ssl.c:1006)",
        "for the endpoint",
    ),
    "MySqlConnector: name": (
        "MySqlConnector.MySqlException: SSL Authentication Error\n ---> System.Security.Authentication."
        "AuthenticationException: The remote certificate is invalid according to the validation procedure: "
        "RemoteCertificateNameMismatch",
        "for the endpoint",
    ),
    "Java: name": ("java.security.cert.CertificateException: No name matching db.corp found", "for the endpoint"),
    "Go: address": (
        "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs", "for the endpoint"
    ),
    "Python: expired": (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)",
        "not valid at this time",
    ),
    "Go: expired": (
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time "
        "2026-01-01T00:00:00Z is after 2024-08-22T17:08:50Z",
        "not valid at this time",
    ),
    "Java: expired": (
        "PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed\nCaused by: "
        "java.security.cert.CertificateExpiredException: NotAfter: Thu Aug 22 17:08:50 UTC 2024",
        "not valid at this time",
    ),
    ".NET: expired": (
        "The remote certificate is invalid because of errors in the certificate chain: NotTimeValid",
        "not valid at this time",
    ),
    "MariaDB: authority": (
        "ERROR 2026 (HY000): TLS/SSL error: Certificate verification failure: The certificate is NOT trusted.",
        "certificate authorities",
    ),
    "mysql: bundle": (
        "ERROR 2026 (HY000): SSL connection error: SSL_CTX_set_default_verify_paths failed", "certificate authorities"
    ),
    "libpq: version of TLS": ("SSL error: tlsv1 alert protocol version", "no version of TLS"),
    "Java: version of TLS": (
        "javax.net.ssl.SSLHandshakeException: No appropriate protocol (protocol is disabled or cipher suites are "
        "inappropriate)",
        "no version of TLS",
    ),
    "Hikari: pool": (
        "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after "
        "30000ms.",
        "own pool",
    ),
    "Hikari: pool and reason": (
        "HikariPool-1 - Connection is not available, request timed out after 30001ms.\nCaused by: org.postgresql.util."
        'PSQLException: FATAL: PAM authentication failed for user "app"',
        "token was refused",
    ),
    "SQLAlchemy: pool": (
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30",
        "own pool",
    ),
    "Npgsql: pool": (
        "The connection pool has been exhausted, either raise 'Max Pool Size' (currently 100) or 'Timeout'", "own pool"
    ),
    "node-postgres: pool": ("Error: timeout exceeded when trying to connect", "own pool"),
    "Prisma: pool": ("Timed out fetching a new connection from the connection pool. (code: P2024)", "own pool"),
    "Prisma: refused": (
        "Error: P1000: Authentication failed against database server, the provided database credentials for `app` are "
        "not valid.",
        "hides the server's error",
    ),
    "Prisma: network": ("Error: P1001: Can't reach database server at `db:5432`", "nothing answers"),
    "Connector/Python: number behind the class": (
        "mysql.connector.errors.ProgrammingError: 1045 (28000): Access denied", "no TLS"
    ),
    "Connector/Python: locked": ("mysql.connector.errors.DatabaseError: 3118 (HY000): Access denied", "is locked"),
    "mysql: no password": (
        "ERROR 1045 (28000): Access denied for user 'app'@'10.0.0.5' (using password: NO)", "sent no password"
    ),
    "mysql: a quote in the name": (
        "Access denied for user 'o'reilly'@'10.0.0.5' (using password: YES)", "no TLS"
    ),
    "psql: quotes in the name": ('FATAL:  role "a "b" c" does not exist', "no such user"),
    "psql: a role": ('ERROR:  permission denied to set role "shop_owner"', "may not change roles"),
    "mysql: a privilege": (
        "ERROR 1227 (42000): Access denied; you need (at least one of) the CREATE USER privilege(s) for this operation",
        "administrative privilege",
    ),
    "Debezium: WAL": ("FATAL: must be superuser or replication role to start walsender", "may not replicate"),
    "PgBouncer: setting": ("ERROR:  unsupported startup parameter: extra_float_digits", "a pooler or proxy"),
    "PgBouncer: password": ("WARNING server login failed: wrong password type", "not in rds_iam"),
    "libpq: another server": ("received invalid response to SSL negotiation: H", "something else"),
    "mysql by RDS Proxy": (
        "ERROR 1045 (28000): IAM authentication failed for user app. Check the IAM token for this user and try again.",
        "the proxy refused the token",
    ),
    "Java: the server's alert": (
        "javax.net.ssl.SSLHandshakeException: Received fatal alert: unknown_ca", "certificate authorities"
    ),
    "AWS SDK for Java": (
        "SdkClientException: Unable to load credentials from any of the providers in the chain", "no AWS credentials"
    ),
    "asyncpg: disabled": (
        'asyncpg.exceptions.InvalidAuthorizationSpecificationError: role "app" is not permitted to log in', "disabled"
    ),
    "asyncpg: too many": ("asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already",
                          "max_connections"),
    "SQLAlchemy: token in the address": (
        'sqlalchemy.exc.OperationalError: (psycopg.OperationalError) invalid percent-encoded token: "%/?Action"',
        "without being encoded",
    ),
    "libpq: token in the address": ('invalid URI query parameter: "X-Amz-Expires"', "without being encoded"),
    "psycopg: bundle": ('root certificate file "/root/.postgresql/root.crt" does not exist', "certificate authorities"),
    "R: MariaDB": (
        "Error: Failed to connect: Plugin mysql_clear_password could not be loaded: /usr/lib/mysql/plugin/"
        "mysql_clear_password.so: cannot open shared object file: No such file or directory",
        "no clear-text plugin",
    ),
    "HeidiSQL": (
        "Authentication plugin 'mysql_clear_password' cannot be loaded: The specified module could not be found.",
        "no clear-text plugin",
    ),
    "ODBC": (
        "[unixODBC][MySQL][ODBC 8.0(w) Driver]Authentication plugin 'mysql_clear_password' cannot be loaded: plugin "
        "not enabled",
        "off by default",
    ),
    "mysql2": (
        "Error: Server requests authentication using unknown plugin mysql_clear_password. See TODO: add plugins doco",
        "off by default",
    ),
    "go-sql-driver: clear text": (
        "this user requires clear text authentication. If you still want to use it, please add "
        "'allowCleartextPasswords=1' to your DSN",
        "off by default",
    ),
    "go-sql-driver: native": ("this user requires mysql native password authentication.", "doesn't log in by token"),
    "go-sql-driver: denied": ("Error 1045 (28000): Access denied for user 'app'@'10.0.1.7' (using password: YES)",
                              "no TLS"),
    "PyMySQL": ("(2059, \"Authentication plugin 'b'mysql_clear_password'' not configured\")", "off by default"),
    "Connector/Python": ("2061: Authentication plugin 'mysql_clear_password' requires SSL encryption", "has no TLS"),
    "DBeaver: key": ("Public Key Retrieval is not allowed", "doesn't log in by token"),
    "DBeaver: link": ("Communications link failure\n\nThe last packet sent successfully to the server was 0 "
                      "milliseconds ago.", "nothing answers"),
    "PHP": ("PDO::__construct(): The server requested authentication method unknown to the client "
            "[mysql_clear_password]", "no clear-text plugin"),
    "expired": ("ERROR 1820 (HY000): You must reset your password using ALTER USER statement before executing this "
                "statement.", "password has expired"),
    "expired, at the login": ("ERROR 1862 (HY000): Your password has expired. To log in you must change it using a "
                              "client that supports expired passwords.", "password has expired"),
    "MySQL: init_connect": ("(1184, \"Aborted connection 13 to db: 'unconnected' user: 'app' host: '10.0.0.9' "
                            "(init_connect command failed)\")", "init_connect"),
    "MySQL: the user's limit": ("ERROR 1226 (42000): User 'app' has exceeded the 'max_user_connections' resource "
                                "(current value: 5)", "as its limit allows"),
    "MySQL: full": ("ERROR 1040 (HY000): Too many connections", "max_connections"),
    "MySQL: host": ("ERROR 1130 (HY000): Host '10.0.0.9' is not allowed to connect to this MySQL server",
                    "host pattern"),
    "MySQL: blocked": ("Host '10.0.0.9' is blocked because of many connection errors; unblock with 'mysqladmin "
                       "flush-hosts'", "broke off"),
    "MySQL: not encrypted": ("ERROR 3159 (HY000): Connections using insecure transport are prohibited while "
                             "--require_secure_transport=ON.", "not encrypted"),
    "PostgreSQL: disabled": ('FATAL: role "app" is not permitted to log in', "is disabled"),
    "PostgreSQL: no such user": ('FATAL:  role "App" does not exist', "no such user"),
    "PostgreSQL: the user's limit": ('FATAL: too many connections for role "app"', "as many connections"),
    "PostgreSQL: the database's limit": ('FATAL: too many connections for database "shop"', "as many connections"),
    "PostgreSQL: no such database": ('FATAL: database "app" does not exist', "no such database"),
    "PostgreSQL: table": ("ERROR: permission denied for table orders", "lacks the privilege"),
    "PostgreSQL: database": ('FATAL: permission denied for database "shop"\nDETAIL: User does not have CONNECT '
                             "privilege.", "may not open"),
    "PostgreSQL: starting": ("FATAL: the database system is starting up", "restarts"),
    "PostgreSQL: expired": ('DETAIL:  User "app" has an expired password.', "VALID UNTIL has passed"),
    "PostgreSQL: rds_iam": ('ERROR: role "rds_iam" does not exist', "IAM authentication is off"),
    "PostgreSQL: replication": ('no pg_hba.conf entry for replication connection from host "10.0.0.9", user "cdc", no '
                                "encryption", "asks for replication"),
    "RDS Proxy: user": ("This RDS proxy has no credentials for the role app. Check the credentials for this role and "
                        "try again.", "none of its secrets"),
    "RDS Proxy: token": ("The IAM authentication failed for the role app. Check the IAM token for this role and try "
                         "again.", "refused the token"),
    "RDS Proxy: TLS": ("This RDS Proxy requires TLS connections", "not encrypted"),
    "RDS Proxy: options": ("Feature not supported: RDS Proxy currently doesn't support command-line options.",
                           "lacks what the client asks for"),
    "RDS Proxy: no connection": ("Timed-out waiting to acquire database connection", "in time"),
    "throttled": ("FATAL: The IAM authentication failed because of too many competing requests.",
                  "too many new connections"),
    "Lambda": ("2026-01-01 Task timed out after 3.00 seconds", "VPC"),
    "aws: expired": ("An error occurred (ExpiredToken) when calling the AssumeRole operation: The security token "
                     "included in the request is expired", "have expired"),
    "aws: SSO": ("Error when retrieving token from sso: Token has expired and refresh failed", "have expired"),
    "aws: none": ("Unable to locate credentials. You can configure credentials by running aws configure",
                  "no AWS credentials"),
    "aws: clock": ("SignatureDoesNotMatch: Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z",
                   "clock is wrong"),
    "aws: not allowed": ("User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: "
                         "rds:DescribeDBInstances", "permission of IAM"),
    "rotation": ("An error occurred (InvalidRequestException) when calling the RotateSecret operation: A previous "
                 "rotation isn't complete. That rotation will be reattempted.", "has begun and not ended"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_CLIENTS)
def test_the_best_explanation_of_what_clients_print_is_the_first(name):
    text, word = OF_CLIENTS[name]
    found = explain(text)
    assert found
    assert word in found[0].cause


def test_beside_the_cause_nothing_else_is_explained():
    for text, _ in OF_CLIENTS.values():
        found = explain(text)
        assert found[0].certainty == min(known.certainty for known in found)
        if found[0].certainty == Certainty.CAUSE:
            assert {known.certainty for known in found} == {Certainty.CAUSE}


@pytest.mark.parametrize("text", ["process 1045 ended", "listening on port 1524", "at line 1317: bad syntax"])
def test_a_number_alone_is_no_error_of_mysql(text):
    assert not explain(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('FATAL: PAM authentication failed for user "app"', "token was refused"),
        ('FATAL: password authentication failed for user "app"', "not in rds_iam"),
        ("connection failed: out of memory", "not in rds_iam"),
        ('FATAL: no pg_hba.conf entry for host "1.2.3.4", user "app", database "x", no encryption', "not encrypted"),
        ("ERROR 1524 (HY000): Plugin 'AWSAuthenticationPlugin' is not loaded", "IAM authentication is off"),
        ("ERROR 1524 (HY000): Plugin 'mysql_native_password' is not loaded", "lacks the plugin"),
        ("ERROR 1045 (28000): Access denied for user 'app'@'10.0.0.1'", "no TLS"),
        ("Access denied for user 'app'@'10.0.0.1' (using password: YES)", "no TLS"),
        ("ERROR 3118 (HY000): Access denied for user 'app'@'10.0.0.1'. Account is locked.", "the account is locked"),
        ("ERROR 4151 (HY000): Access denied, this account is locked", "the account is locked"),
        (
            "ERROR 3955 (HY000): Access denied for user 'app'@'10.0.0.1'. Account is blocked for 1 day(s) (1 day(s) "
            "remaining) due to 3 consecutive failed logins.",
            "after failed logins",
        ),
        ("ERROR 3892 (HY000): Current password needs to be specified in the REPLACE clause", "its current password"),
        (
            "ERROR 4006 (HY000): Operation CREATE USER failed for 'ghost'@'%' as it is referenced as a definer account",
            "as their definer",
        ),
        ("ERROR 1317 (70100): Query execution was interrupted", "the server is going down"),
        ("ERROR 1053 (08S01): Server shutdown in progress", "the server is going down"),
        ("ERROR 1142 (42000): SELECT command denied to user 'app'@'10.0.0.1' for table 't'", "lacks the privilege"),
        ("ERROR 1044 (42000): Access denied for user 'app'@'%' to database 'shop'", "lacks the privilege"),
        ("Authentication plugin 'mysql_clear_password' cannot be loaded: plugin not enabled", "clear text"),
        ("MYSQL_CLEAR_PASSWORD_NOT_ENABLED", "clear text"),
        ("pam_authenticate failed: Permission denied", "may not rds-db:connect"),
        ("SSL error: certificate verify failed", "trust store"),
        ("The IAM authentication failed because of too many competing requests", "too many new connections"),
        ("Task timed out after 3.00 seconds", "VPC"),
        ("A value is missing in the request: X-Amz-Security-Token", "session token"),
        ('could not translate host name "x" to address', "does not resolve"),
        ("connect ETIMEDOUT 10.0.0.1:5432", "nothing answers"),
    ],
)
def test_a_pasted_error_is_explained(text, word):
    assert word in explain(text)[0].cause
    done = CliRunner().invoke(app, ["doctor", "--error", text])
    assert done.exit_code == 3
    assert word in done.output


@pytest.mark.parametrize(
    "text",
    [
        "ERROR 3118 (HY000): Access denied for user 'app'@'10.0.0.1'. Account is locked.",
        "Access denied for user 'app'@'10.0.0.1'. Account is blocked for 2 day(s) due to 3 consecutive failed logins.",
        "ERROR 1044 (42000): Access denied for user 'app'@'%' to database 'shop'",
        "Plugin 'mysql_native_password' is not loaded",
    ],
)
def test_a_specific_error_of_mysql_gets_no_advice_about_tokens(text):
    assert len(explain(text)) == 1


def test_every_known_error_has_a_fix_and_no_fix_switches_verification_off():
    for known in KNOWN_ERRORS:
        assert known.fixes
        text = " ".join(known.fixes).lower()
        assert not any(word in text for word in ("rejectunauthorized", "sslmode=require", "skip-ssl", "verify_ca"))


def test_an_unknown_error_ends_with_exit_code_7():
    assert CliRunner().invoke(app, ["doctor", "--error", "the printer is on fire"]).exit_code == 7
