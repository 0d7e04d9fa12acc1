"""Known errors of PostgreSQL's servers."""

from rdsiam.doctor.known_error import Certainty, KnownError

ERRORS: tuple[KnownError, ...] = (
    KnownError(
        r"role \"rds_iam\" does not exist",
        "IAM authentication is off on this database, or not on yet",
        ("rdsiam onboard DATABASE, which switches it on", "rdsiam doctor DATABASE USER prints the call of RDS"),
    ),
    KnownError(
        r"is not permitted to log ?in|\brole .* cannot login",
        "the user is disabled (NOLOGIN): rdsiam revoked it, access.yaml no longer declares it, or an administrator "
        "disabled it; of a job of pg_cron or a subscription, the user in whose name it runs",
        ("rdsiam onboard DATABASE --plan", "ALTER ROLE the user LOGIN, if rdsiam doesn't manage the user"),
    ),
    KnownError(
        r"too many connections for role|too many connections for database",
        "the user or the database has as many connections as its limit allows (CONNECTION LIMIT)",
        ("a pool with fewer connections", "`connections` of the user in access.yaml, then rdsiam onboard DATABASE",
         "ALTER ROLE … CONNECTION LIMIT, ALTER DATABASE … CONNECTION LIMIT"),
    ),
    KnownError(
        r"too many clients already|remaining connection slots are reserved|TooManyConnectionsError",
        "the server has no connections left (max_connections)",
        ("a pool with fewer connections, or RDS Proxy", "a larger instance class"),
    ),
    KnownError(
        r"has an expired password",
        "the user's VALID UNTIL has passed",
        ("rdsiam onboard DATABASE --plan", "ALTER ROLE the user VALID UNTIL 'infinity'"),
    ),
    KnownError(
        r"\brole \"(?!rds_iam\")[^\n]*\" does not exist|no such user:",
        "the server has no such user; names are case-sensitive",
        ("declare the user in access.yaml, then rdsiam onboard DATABASE",),
    ),
    KnownError(
        r"database \"[^\n]*\" does not exist|no such database:",
        "the server has no such database; clients that name none open the one that is named as the user",
        ("rdsiam psql DATABASE -d NAME", "PGDATABASE or dbname=NAME"),
    ),
    KnownError(
        r"permission denied for database|does not have CONNECT privilege",
        "the login worked; the user may not open this database",
        ("`on` of the user in access.yaml, then rdsiam onboard DATABASE",),
    ),
    KnownError(
        r"is not currently accepting connections|cannot connect to invalid database",
        "the database is closed, or a DROP DATABASE of it was interrupted",
        ("as its owner: ALTER DATABASE … ALLOW_CONNECTIONS true, or DROP DATABASE",),
    ),
    KnownError(
        r"the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)|"
        r"terminating connection due to administrator command",
        "the server restarts, or an administrator ended the session",
        ("the same again", "aws rds describe-events --source-identifier NAME --source-type db-instance or db-cluster"),
    ),
    KnownError(
        r"cannot execute \w[\w ]* in a read-only transaction",
        "the session writes on a reader or a replica, or is read-only by default",
        ("name the writer: rdsiam psql CLUSTER", "SHOW default_transaction_read_only"),
    ),
    KnownError(
        r"permission denied for (table|view|schema|sequence|function|relation|materialized view)|must be owner of",
        "the login worked; the user lacks the privilege for this object",
        ("rdsiam onboard DATABASE --plan", "`privileges` of the user in access.yaml"),
    ),
    KnownError(
        r"permission denied to (create|alter|drop|grant|set) role|must have admin option on role",
        "the login worked; the user may not change roles, or may not SET ROLE: only administrators, and owners of a "
        "database as its group, may",
        ("rdsiam onboard DATABASE --plan", "declare users and their groups in access.yaml"),
    ),
    KnownError(
        r"permission denied to start WAL sender|to start walsender|must be superuser or replication role",
        "the login worked; the user may not replicate",
        ("as the master: GRANT rds_replication TO the user",),
    ),
    KnownError(
        r"pam_authenticate failed: Permission denied|rdsauthproxy.*403",
        "the signer may not rds-db:connect as this user here: policy, boundary, session policy or SCP",
        ("rdsiam doctor DATABASE USER", "rdsiam onboard DATABASE --plan"),
    ),
    KnownError(
        r"no pg_hba\.conf entry.*no encryption|pg_hba\.conf rejects.*(SSL off|no encryption)|"
        r"no pg_hba\.conf entry.*SSL off",
        "the connection is not encrypted; after a line about PAM this is only the second try, without TLS, and the PAM "
        "line is the real error",
        ("rdsiam psql DATABASE", "sslmode=verify-full sslrootcert=global-bundle.pem"),
        Certainty.REMARK,
    ),
    KnownError(
        r"no pg_hba\.conf entry for replication|pg_hba\.conf rejects replication",
        "a user of rds_iam asks for replication: it takes passwords only, unless rds.iam_auth_for_replication is 1",
        ("a user with a password for replication",
         "rds.iam_auth_for_replication in the parameter group; RDS's default one can't be changed"),
    ),
    KnownError(
        r"PAM authentication failed",
        "the token was refused: too old, cut off, for another host, port, user or region, signed with credentials "
        "that have expired, or not allowed. If a password was sent: the user is in rds_iam, perhaps "
        "through a group, and then passwords no longer work",
        ("rdsiam doctor DATABASE USER", "rdsiam token … | rdsiam doctor --token -",
         "in a pool: a new token for each connection, see rdsiam.pool"),
        Certainty.SYMPTOM,
    ),
    KnownError(
        r"password authentication failed|SCRAM|out of memory|\b28P01\b|wrong password type|"
        r"authentication (type|method) (10|5|\"?SASL\"?)\b.*not supported",
        "the server took the token for a password: the user is not in rds_iam, or IAM authentication is off",
        ("rdsiam onboard DATABASE --plan",
         "if clients use the user's password, rdsiam migrate start DATABASE USER: GRANT rds_iam TO the user ends it"),
        Certainty.SYMPTOM,
    ),
)  # fmt: skip
