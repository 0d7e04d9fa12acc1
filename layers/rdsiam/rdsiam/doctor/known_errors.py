"""Known errors of logins: messages of servers, drivers and tools, their likely cause, and what to do.

From public issue threads and AWS's documentation. Specific messages come before general ones.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownError:
    """An error message and its explanation.

    :ivar pattern: a regular expression, searched for in upper and lower case.
    :ivar cause: the likely cause.
    :ivar fixes: what to do, the likeliest first; commands if there are any.
    """

    pattern: str
    cause: str
    fixes: tuple[str, ...]


KNOWN_ERRORS: tuple[KnownError, ...] = (
    KnownError(
        r"MYSQL_CLEAR_PASSWORD|mysql_clear_password.*(not enabled|cannot be loaded)|Authentication plugin.*clear",
        "the client refuses to send a token in clear text inside TLS: its plugin is off by default",
        (
            "rdsiam mysql DATABASE",
            "mysql: --enable-cleartext-plugin --ssl-mode=VERIFY_IDENTITY --ssl-ca=global-bundle.pem",
            "node mysql2: enableCleartextPlugin: true, together with ssl: {ca}",
        ),
    ),
    KnownError(
        r"mysql_clear_password\.so|cannot open shared object file",
        "MariaDB's connector has no clear-text plugin installed",
        ("install the connector's plugins (Debian: libmariadb3), or use PyMySQL, which has it built in",),
    ),
    KnownError(
        r"Plugin 'AWSAuthenticationPlugin' is not loaded|role \"rds_iam\" does not exist",
        "IAM authentication is off on this database, or not on yet",
        ("aws rds modify-db-instance --db-instance-identifier NAME --enable-iam-database-authentication "
         "--apply-immediately", "rdsiam onboard DATABASE"),
    ),
    KnownError(
        r"\b1524\b|Plugin '\w+' is not loaded",
        "the server lacks the plugin by which this account logs in: MySQL 8.4 doesn't load mysql_native_password, and "
        "MySQL 9 no longer has it",
        ("move the account to tokens: declare it in access.yaml, then rdsiam onboard DATABASE",
         "ALTER USER … IDENTIFIED WITH caching_sha2_password BY … as the master"),
    ),
    KnownError(
        r"\b3118\b|\b4151\b|account is locked",
        "the account is locked: rdsiam revoked the user, access.yaml no longer declares it, or an administrator locked "
        "it",
        ("rdsiam onboard DATABASE --plan", "ALTER USER … ACCOUNT UNLOCK, if rdsiam doesn't manage the user"),
    ),
    KnownError(
        r"\b3955\b|Account is blocked",
        "the server blocked the account after failed logins (FAILED_LOGIN_ATTEMPTS), whoever made them",
        ("rdsiam onboard DATABASE, which ends that for the users that it manages",
         "ALTER USER … ACCOUNT UNLOCK FAILED_LOGIN_ATTEMPTS 0"),
    ),
    KnownError(
        r"\b3892\b|Current password needs to be specified",
        "the account needs its current password to change it: PASSWORD REQUIRE CURRENT, or password_require_current",
        ("ALTER USER … IDENTIFIED BY … REPLACE the current password", "ALTER USER … PASSWORD REQUIRE CURRENT OPTIONAL"),
    ),
    KnownError(
        r"\b4006\b|referenced as a definer account",
        "views, routines, triggers or events have this account as their definer, so only a user with SET_ANY_DEFINER "
        "(up to MySQL 8.1 SET_USER_ID), as RDS's master, may create, rename or drop it",
        ("as the master: the same statement", "give these objects another definer"),
    ),
    KnownError(
        r"\b1317\b|\b1053\b|Query execution was interrupted|Server shutdown in progress",
        "the server is going down, or an administrator ended the statement or its session",
        ("the same again", "aws rds describe-events --source-type db-instance --source-identifier NAME"),
    ),
    KnownError(
        r"\b1044\b|\b1142\b|command denied to user|Access denied for user '.*'@'.*' to database",
        "the login worked; the user lacks the privilege for this schema or table. With partial_revokes, as on Aurora "
        "MySQL 3, the name of a schema in GRANT is literal: a grant on `my\\_app` is none on my_app",
        ("rdsiam onboard DATABASE --plan", "SHOW GRANTS"),
    ),
    KnownError(
        r"too many competing requests|canceling authentication due to timeout|rdsauthproxy.*503|\b503\b.*rds",
        "too many new connections at once for this instance class: IAM authentication takes memory and CPU",
        ("reuse connections: a pool", "retry with a growing, random pause", "a larger instance class"),
    ),
    KnownError(
        r"pam_authenticate failed: Permission denied|rdsauthproxy.*403",
        "the signer may not rds-db:connect as this user here: policy, boundary, session policy or SCP",
        ("rdsiam doctor DATABASE USER", "rdsiam onboard DATABASE --plan"),
    ),
    KnownError(
        r"X-Amz-Security-Token",
        "the token was signed with an empty or missing session token",
        ("sign with AWS's SDK or rdsiam token, which leave an empty one out",),
    ),
    KnownError(
        r"no pg_hba\.conf entry.*no encryption|pg_hba\.conf rejects.*(SSL off|no encryption)|require_secure_transport",
        "the connection is not encrypted; after a line about PAM this is only the second try, without TLS, and the PAM "
        "line is the real error",
        ("rdsiam psql DATABASE", "sslmode=verify-full sslrootcert=global-bundle.pem"),
    ),
    KnownError(
        r"certificate verify failed|unable to get local issuer|self[- ]signed certificate|CERTIFICATE_VERIFY_FAILED",
        "RDS's certificate authorities are in no trust store: verification needs their bundle; never turn it off",
        ("rdsiam psql DATABASE", "sslrootcert=global-bundle.pem from https://truststore.pki.rds.amazonaws.com"),
    ),
    KnownError(
        r"does not match host name|hostname mismatch|Hostname/IP does not match|IP address mismatch",
        "the certificate is for the endpoint, and the connection goes to a CNAME, an address or a tunnel",
        ("rdsiam psql DATABASE --via HOST:PORT",),
    ),
    KnownError(
        r"PAM authentication failed",
        "the token was refused: too old, cut off, for another host, port, user or region, signed with credentials "
        "that have expired, or not allowed. If a password was sent: the user is in rds_iam, perhaps "
        "through a group, and then passwords no longer work",
        ("rdsiam doctor DATABASE USER", "rdsiam token … | rdsiam doctor --token -",
         "in a pool: a new token for each connection, see rdsiam.pool"),
    ),
    KnownError(
        r"password authentication failed|SCRAM|out of memory|\b28P01\b",
        "the server took the token for a password: the user is not in rds_iam, or IAM authentication is off",
        ("rdsiam onboard DATABASE --plan", "GRANT rds_iam TO the user"),
    ),
    KnownError(
        r"\b1045\b|Access denied for user '[^']*'@'[^']*'(?!\.| to database)",
        "no TLS, a token that has expired, another host, user or region, a policy that does not match, or another "
        "account with the same name and a narrower host pattern",
        ("rdsiam doctor DATABASE USER", "rdsiam mysql DATABASE"),
    ),
    KnownError(
        r"Task timed out",
        "a function in a VPC that can't reach AWS's services or the database",
        ("endpoints for secretsmanager, sts, rds and logs in the VPC, or a NAT gateway; a time limit of 30 s",),
    ),
    KnownError(
        r"could not translate host name|Name or service not known|getaddrinfo|Unknown MySQL server host|ENOTFOUND",
        "the endpoint's name does not resolve: a typing mistake, a deleted database, or a private zone",
        ("aws rds describe-db-instances --query 'DBInstances[].Endpoint'",),
    ),
    KnownError(
        r"Connection refused|timed? ?out|ETIMEDOUT|Can't connect to",
        "nothing answers at host and port: the security group, the way there, or a database that is stopped",
        ("aws rds describe-db-instances --query 'DBInstances[].[DBInstanceStatus,VpcSecurityGroups]'",),
    ),
    KnownError(
        r"ExpiredToken|token included in the request is expired",
        "your AWS credentials have expired",
        ("aws sso login",),
    ),
)  # fmt: skip


def explain(text: str) -> tuple[KnownError, ...]:
    """Return the explanations of an error message, the likeliest first; empty if it is not known."""
    return tuple(known for known in KNOWN_ERRORS if re.search(known.pattern, text, re.IGNORECASE | re.DOTALL))
