"""Known errors of the servers of MySQL and MariaDB."""

from rdsiam.doctor.known_error import Certainty, KnownError, number

ERRORS: tuple[KnownError, ...] = (
    KnownError(
        r"Plugin 'AWSAuthenticationPlugin' is not loaded",
        "IAM authentication is off on this database, or not on yet",
        ("rdsiam onboard DATABASE, which switches it on", "rdsiam doctor DATABASE USER prints the call of RDS"),
    ),
    KnownError(
        rf"{number(1524)}(?!.*AWSAuthenticationPlugin)|Plugin '(?!AWSAuth)\w+' is not loaded",
        "the server lacks the plugin by which this account logs in: MySQL 8.4 doesn't load mysql_native_password, and "
        "MySQL 9 no longer has it",
        ("move the account to tokens: declare it in access.yaml, then rdsiam onboard DATABASE",
         "ALTER USER … IDENTIFIED WITH caching_sha2_password BY … as the master"),
    ),
    KnownError(
        rf"{number(3118, 4151)}|account is locked|ER_ACCOUNT_HAS_BEEN_LOCKED",
        "the account is locked: rdsiam revoked the user, access.yaml no longer declares it, or an administrator locked "
        "it",
        ("rdsiam onboard DATABASE --plan", "ALTER USER … ACCOUNT UNLOCK, if rdsiam doesn't manage the user"),
    ),
    KnownError(
        rf"{number(3955)}|Account is blocked",
        "the server blocked the account after failed logins (FAILED_LOGIN_ATTEMPTS), whoever made them",
        ("rdsiam onboard DATABASE, which ends that for the users that it manages",
         "ALTER USER … ACCOUNT UNLOCK FAILED_LOGIN_ATTEMPTS 0"),
    ),
    KnownError(
        rf"{number(1820, 1862)}|password has expired|must (reset|SET) (your )?password|ER_MUST_CHANGE_PASSWORD",
        "the account's password has expired: a session may only set a new one. MariaDB expires accounts that log in by "
        "token too",
        ("rdsiam rotate now DATABASE USER, which sets a new one", "move the user to tokens: rdsiam migrate start",
         "a user that logs in by token: rdsiam onboard DATABASE, which ends that; for one that rdsiam doesn't manage "
         "ALTER USER … IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' PASSWORD EXPIRE NEVER as the master"),
    ),
    KnownError(
        r"init_connect command failed",
        "the parameter init_connect has a statement that each new session runs; it fails for this user, and that ends "
        "the session",
        ("as the master: SELECT @@init_connect, then GRANT what it needs to the user, and to rdsiam_manager and "
         "rdsiam_auditor",
         "an empty init_connect in the parameter group"),
    ),
    KnownError(
        rf"{number(3892)}|Current password needs to be specified",
        "the account needs its current password to change it: PASSWORD REQUIRE CURRENT, or password_require_current",
        ("ALTER USER … IDENTIFIED BY … REPLACE the current password", "ALTER USER … PASSWORD REQUIRE CURRENT OPTIONAL"),
    ),
    KnownError(
        rf"{number(4006)}|referenced as a definer account",
        "views, routines, triggers or events have this account as their definer, so only a user with SET_ANY_DEFINER "
        "(up to MySQL 8.1 SET_USER_ID), as RDS's master, may create, rename or drop it",
        ("as the master: the same statement", "give these objects another definer"),
    ),
    KnownError(
        rf"{number(1317, 1053, 1927)}|Query execution was interrupted|Server shutdown in progress|"
        r"Connection was killed",
        "the server is going down, or an administrator ended the statement or its session",
        ("the same again", "aws rds describe-events --source-identifier NAME --source-type db-instance or db-cluster"),
    ),
    KnownError(
        rf"{number(1044, 1142, 1143, 1370)}|command denied to user|Access denied for user '.*'@'.*' to database",
        "the login worked; the user lacks the privilege for this schema or table. With partial_revokes, as on Aurora "
        "MySQL 3, the name of a schema in GRANT is literal: a grant on `my\\_app` is none on my_app",
        ("rdsiam onboard DATABASE --plan", "SHOW GRANTS"),
    ),
    KnownError(
        rf"{number(1227)}|you need \(at least one of\) the",
        "the login worked; the statement needs an administrative privilege, which rdsiam gives to no user",
        ("as the master: the same statement", "SHOW GRANTS"),
    ),
    KnownError(
        rf"{number(1203, 1226)}|max_user_connections",
        "the account has as many connections as its limit allows (MAX_USER_CONNECTIONS)",
        ("a pool with fewer connections", "`connections` of the user in access.yaml, then rdsiam onboard DATABASE"),
    ),
    KnownError(
        rf"{number(1040)}|\bToo many connections(?! for)",
        "the server has no connections left (max_connections)",
        ("a pool with fewer connections, or RDS Proxy", "a larger instance class"),
    ),
    KnownError(
        rf"{number(1129)}|is blocked because of many connection errors",
        "the server refuses the client's host after connections that broke off, such as port scans and TLS errors",
        ("as the master: FLUSH HOSTS", "max_connect_errors in the parameter group; RDS's default one can't be changed"),
    ),
    KnownError(
        rf"{number(1130)}|is not allowed to connect to this (MySQL|MariaDB) server",
        "no account has a host pattern that covers the client's address",
        ("rdsiam onboard DATABASE --plan", "SELECT user, host FROM mysql.user"),
    ),
    KnownError(
        rf"{number(1049)}|Unknown database '",
        "the server has no such schema",
        ("rdsiam mysql DATABASE -d NAME", "SHOW DATABASES"),
    ),
    KnownError(
        rf"{number(1290, 1836)}|running with the (--)?(super.)?read.only option|in read only mode",
        "the session writes on a reader or a replica",
        ("name the writer: rdsiam mysql CLUSTER",),
    ),
    KnownError(
        rf"{number(3159)}|require_secure_transport|Connections using insecure transport are prohibited",
        "the connection is not encrypted, and the server accepts no other",
        ("rdsiam mysql DATABASE", "--ssl-mode=VERIFY_IDENTITY --ssl-ca=global-bundle.pem"),
    ),
    KnownError(
        rf"{number(1045, 1698)}|Access denied for user '.*'@'[^']*'(?!\.| to database)|ER_ACCESS_DENIED_ERROR",
        "no TLS, a token that has expired, another host, user or region, a policy that does not match, or another "
        "account with the same name and a narrower host pattern",
        ("rdsiam doctor DATABASE USER", "rdsiam mysql DATABASE"),
        Certainty.SYMPTOM,
    ),
)  # fmt: skip
