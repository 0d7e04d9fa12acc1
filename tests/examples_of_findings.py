"""One example of every kind of finding: a change to a fleet that is in order, and the findings of the audit.

The tests check that each example gives its findings and no others; docs/findings.md shows them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rdsiam.access.calendar import rules
from rdsiam.access.model import parse
from rdsiam.access.selection import Attributes, select
from rdsiam.audit.drift import Login
from rdsiam.engines.facts import Unreadable
from rdsiam.findings.finding import Finding
from rdsiam.state.escalations import Escalation, Examined
from rdsiam.state.record import SecretRecord
from rdsiam.state.schemas import ObservedSchemas, PublicSchema
from tests.audited_fleet import (
    _READWRITE,
    ADMINISTRATOR,
    IAM,
    MARIADB,
    MY_CLEAN,
    MYSQL,
    PG_CLEAN,
    POSTGRES,
    ROLE,
    ROTATING,
    TAGGED,
    allow,
    dbuser,
    evaluate,
    evaluate_holders,
    evaluate_role,
    inline,
    managed,
    my,
    pg,
    proxy,
    secret,
    with_accounts,
    without_accounts,
)


@dataclass(frozen=True)
class Example:
    """A change and the findings that it gives.

    :ivar done: the change, in words.
    :ivar also: kinds of further findings that the change gives.
    """

    done: str
    findings: Callable[[], tuple[Finding, ...]]
    also: tuple[str, ...] = ()


EXAMPLES: Mapping[str, Example] = {
    "iam-authentication-off": Example(
        "IAM authentication of `orders` is off.",
        lambda: evaluate(replace(POSTGRES, iam_enabled=False), Unreadable("iam", "IAM authentication is off")),
    ),
    "iam-authentication-unavailable": Example(
        "`carts` runs MariaDB 10.6.",
        lambda: evaluate(
            replace(MARIADB, engine_version="10.6.24", iam_enabled=False),
            Unreadable("iam", "IAM authentication is off"),
            without_iam={MARIADB.arn: "10.11.4"},
        ),
    ),
    "master-password-reset": Example(
        "`aws rds modify-db-instance --db-instance-identifier orders --master-user-password …`",
        lambda: evaluate(notices={"RDS-EVENT-0016": "2026-06-30T09:30:00Z"}),
    ),
    "secret-not-found": Example(
        "The secret of the master of `orders` was deleted.",
        lambda: evaluate(notices={"RDS-EVENT-0327": "2026-06-30T09:30:00Z"}),
    ),
    "memory-critically-low": Example(
        "A report that sorts too much ran on `orders`, a `db.t4g.medium`.",
        lambda: evaluate(
            replace(POSTGRES, instance_class="db.t4g.medium"), notices={"RDS-EVENT-0404": "2026-06-30T09:30:00Z"}
        ),
    ),
    "iam-authentication-pending": Example(
        "IAM authentication was switched on without `--apply-immediately`.",
        lambda: evaluate(
            replace(POSTGRES, iam_enabled=False, pending=("IAMDatabaseAuthenticationEnabled",)),
            Unreadable("iam", "IAM authentication is off"),
        ),
    ),
    "database-unreachable": Example(
        "A security group blocks the audit.",
        lambda: evaluate(facts=Unreadable("port", "connection timed out after 5 s")),
    ),
    "access-file-invalid": Example(
        "access.yaml declares a user `boss`, which is the master of `orders`.",
        lambda: evaluate(
            access=parse(
                'version: 1\ndatabases:\n  - match: {identifier: "*"}\n'
                "    users:\n      - {name: boss, privileges: readonly, on: [shop]}\n"
            )
        ),
    ),
    "gains-need-confirmation": Example(
        "`orders`, recorded with `env: prod`, was tagged `env: dev`, for which access.yaml gives developers a login.",
        lambda: evaluate(
            select(replace(POSTGRES, tags={"env": "dev"}), Attributes.of(replace(POSTGRES, tags={"env": "prod"}))),
            access=TAGGED,
        ),
    ),
    "declared-database-missing": Example(
        "The database `shop` was renamed.",
        lambda: evaluate(
            facts=replace(PG_CLEAN, databases=("postgres", "store"), examined=Examined(("postgres", "store"), ()))
        ),
    ),
    "tls-not-enforced": Example(
        "The parameter group of `carts` leaves `require_secure_transport` off.",
        lambda: evaluate(MYSQL, replace(MY_CLEAN, tls_enforced=False)),
    ),
    "instance-too-small": Example(
        "`orders` is a `db.t4g.micro`.", lambda: evaluate(database=replace(POSTGRES, instance_class="db.t4g.micro"))
    ),
    "proxy-without-tls": Example(
        "The proxy `front` was created without `RequireTLS`.",
        lambda: evaluate(proxies=[proxy(POSTGRES, tls_required=False)]),
    ),
    "secret-of-iam-user": Example(
        "`app` was converted; its secret was kept.", lambda: evaluate(MYSQL, secrets=[secret("app")])
    ),
    "rotation-stuck": Example(
        "A rotation could not reach the database in the step setSecret. (The user is the master.)",
        lambda: evaluate(
            MYSQL,
            secrets=[
                secret("boss", rotation_enabled=True, pending_stuck=True, pending_version="p-1", current_version="c-1")
            ],
        ),
    ),
    "rotation-failing": Example(
        "A security group now blocks RotateFunction: setSecret has failed for half an hour.",
        lambda: evaluate(
            MYSQL, secrets=[secret("boss", rotation_enabled=True, pending_failing=True, pending_version="p-1")]
        ),
    ),
    "rotation-not-set": Example(
        "access.yaml has `rotate: {users: [etl], every: 30d}`, and the owner of the secret has not tagged it.",
        lambda: evaluate(access=ROTATING, secrets=[secret("etl", POSTGRES)]),
    ),
    "secret-not-as-recorded": Example(
        "The secret of `etl` is recorded; the owner of the secret has put another user into its value.",
        lambda: evaluate(
            access=ROTATING,
            recorded_secrets={"etl": SecretRecord(POSTGRES.resource_id, secret("payments").arn, "single")},
            secrets=[
                secret(
                    "payments",
                    POSTGRES,
                    rotation_enabled=True,
                    rotation_rules=rules(POSTGRES.resource_id, [("etl", "30d", "00:00/24h")])["etl"],
                    current_version="c-1",
                    previous_version="p-1",
                )
            ],
        ),
    ),
    "rotation-overdue": Example(
        "The rotation function was deleted, and nobody noticed.",
        lambda: evaluate(
            MYSQL,
            secrets=[
                secret(
                    "boss",
                    rotation_enabled=True,
                    last_rotated="2025-06-01T00:00:00Z",
                    next_rotation="2025-07-01T23:59:59Z",
                )
            ],
        ),
    ),
    "acts-as-administrator": Example(
        "`GRANT ALL ON ALL TABLES IN SCHEMA public TO app`, run by `boss`, the owner of the tables.",
        lambda: evaluate(
            facts=replace(
                PG_CLEAN,
                examined=Examined(
                    ("postgres", "shop"),
                    (
                        Escalation(
                            "shop",
                            "boss",
                            "app",
                            "tables",
                            ("REFERENCES", "TRIGGER"),
                            (("public", "customer"), ("public", "invoice")),
                            2,
                            ("app",),
                        ),
                    ),
                ),
            )
        ),
    ),
    "public-may-create": Example(
        "The instance was upgraded from PostgreSQL 14 to 18.",
        lambda: evaluate(
            facts=replace(
                PG_CLEAN,
                examined=Examined(
                    ("postgres", "shop"), (), ObservedSchemas(public=(PublicSchema("shop", "public", "boss"),))
                ),
            )
        ),
    ),
    "administrators-unexamined": Example(
        "No user is declared on the database `crm`.",
        lambda: evaluate(facts=replace(PG_CLEAN, databases=("crm", "postgres", "shop"))),
    ),
    "manager-without-admin": Example(
        "The instance was upgraded from PostgreSQL 15 to 18, and no onboarding has run since.",
        lambda: evaluate(facts=replace(PG_CLEAN, unadministered=frozenset({"app", "boss", "report"}))),
    ),
    "user-without-iam": Example(
        "`CREATE ROLE legacy LOGIN PASSWORD '…'`",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("legacy", iam=False, tls=False, sessions=0))),
    ),
    "user-with-empty-password": Example(
        "`CREATE USER etl`",
        lambda: evaluate(
            MYSQL, with_accounts(MY_CLEAN, my("etl", iam=False, tls=False, empty_password=True, sessions=2))
        ),
    ),
    "user-with-second-password": Example(
        "`ALTER USER app IDENTIFIED VIA AWSAuthenticationPlugin AS 'RDS' OR mysql_native_password`",
        lambda: evaluate(
            MARIADB,
            with_accounts(MY_CLEAN, my("app", second_password=True, password=True, privileges={"shop": _READWRITE})),
        ),
    ),
    "user-partly-converted": Example(
        "`CREATE USER app@'10.%' IDENTIFIED BY '…'`",
        lambda: evaluate(
            MYSQL, with_accounts(MY_CLEAN, my("app", "10.%", iam=False, tls=False, privileges={"shop": _READWRITE}))
        ),
    ),
    "anonymous-user": Example(
        "`mysql_install_db` left its test accounts.",
        lambda: evaluate(
            MARIADB, with_accounts(MY_CLEAN, my("", "localhost", iam=False, tls=False, empty_password=True))
        ),
    ),
    "user-without-tls": Example(
        "`ALTER USER app REQUIRE NONE` on a server that doesn't enforce TLS.",
        lambda: evaluate(
            MYSQL, with_accounts(MY_CLEAN, my("app", tls=False, privileges={"shop": _READWRITE}), tls_enforced=False)
        ),
        also=("tls-not-enforced",),
    ),
    "undeclared-user": Example(
        "`CREATE ROLE helper LOGIN; GRANT rds_iam TO helper`",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("helper", sessions=0))),
    ),
    "login-not-removed": Example(
        "`rdsiam revoke orders report`, while a replica of the database does not answer.",
        lambda: evaluate(
            leaving={"report": "connecting to orders-copy failed at port"}, revoked={"report": "key leaked"}
        ),
    ),
    "missing-user": Example("`DROP ROLE report`", lambda: evaluate(facts=without_accounts(PG_CLEAN, "report"))),
    "privileges-differ": Example(
        "`GRANT shop_readwrite TO report`",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("report", member_of=("shop_readonly", "shop_readwrite")))),
    ),
    "group-with-rds-iam": Example(
        "`GRANT rds_iam TO staff`, a role that can't log in.",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("staff", login=False))),
    ),
    "user-inherits-rds-iam": Example(
        "`GRANT app TO legacy`",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("legacy", iam_through=("app",), member_of=("app",)))),
    ),
    "administrator-locked-out": Example(
        "`GRANT app TO boss`, the master.",
        lambda: evaluate(
            facts=with_accounts(PG_CLEAN, pg("boss", administrator=True, iam_through=("app",), member_of=("app",)))
        ),
    ),
    "master-by-token": Example(
        "`MasterUserAuthenticationType: iam-db-auth`, so that RDS has granted rds_iam to boss, the master.",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("boss", administrator=True, member_of=("rds_iam",)))),
    ),
    "replication-user-with-iam": Example(
        "`GRANT rds_iam TO debezium`, a member of rds_replication.",
        lambda: evaluate(
            facts=with_accounts(PG_CLEAN, pg("debezium", replication=True, member_of=("rds_replication",)))
        ),
    ),
    "proxy-user-with-iam": Example(
        "`GRANT rds_iam TO pooled`, the user that the proxy `front` logs in as.",
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("pooled")), proxies=[proxy(POSTGRES)]),
    ),
    "objects-owned-by-clone": Example(
        "The application created tables while it was logged in as `legacy_clone`.",
        lambda: evaluate(
            facts=with_accounts(PG_CLEAN, pg("legacy", iam=False), pg("legacy_clone", iam=False, owns=3)),
        ),
        also=("user-without-iam", "user-without-iam"),
    ),
    "wildcard-connect-policy": Example(
        "A vendor's role holds AdministratorAccess.",
        lambda: evaluate_role(ADMINISTRATOR, arn=f"{IAM}role/vendor"),
    ),
    "condition-on-connect-policy": Example(
        "A policy lets `app` log in only from the office.",
        lambda: evaluate_role(inline(allow(dbuser("app"), Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}))),
    ),
    "stale-resource-id": Example(
        "`orders` was restored; the policy still names the former database as well.",
        lambda: evaluate_role(managed(allow(dbuser("app"), dbuser("app", "db-FORMER")))),
    ),
    "member-resource-id": Example(
        "The policy names the writer's resource id, not the cluster's.",
        lambda: evaluate_role(inline(allow(dbuser("app", "db-MEMBER")))),
    ),
    "wrong-connect-arn": Example(
        "The policy has the instance's own ARN.", lambda: evaluate_role(inline(allow(POSTGRES.arn, dbuser("app"))))
    ),
    "undeclared-connect-grant": Example(
        "A policy lets the role `app` log in as `report` too.",
        lambda: evaluate_role(inline(allow(dbuser("app"), dbuser("report")))),
    ),
    "connect-grant-missing": Example(
        "`aws iam detach-role-policy --role-name app --policy-arn …/rdsiam/connect/rdsiam-app-1`",
        lambda: evaluate_holders(logins={"db-ORDERS": [Login(ROLE, "app")]}),
    ),
    "user-name-case": Example("The policy names `App`.", lambda: evaluate_role(inline(allow(dbuser("App"))))),
}
