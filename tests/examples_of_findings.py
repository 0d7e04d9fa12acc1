"""One example of every kind of finding: a change to a fleet that is in order, and the findings of the audit.

The tests check that each example gives its findings and no others; docs/findings.md shows them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rdsiam.access.calendar import rules
from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import Attributes, SelectedDatabase, select
from rdsiam.audit.account import AccountContext
from rdsiam.audit.deployment import Deployment
from rdsiam.audit.drift import Login
from rdsiam.audit.evaluate_database import RecordedState, evaluate_database
from rdsiam.audit.evaluate_iam import evaluate_iam
from rdsiam.audit.iam_logins import Fleet
from rdsiam.aws.iam import HeldPolicy, Holder
from rdsiam.aws.rds import Proxy, ResourceIds
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.engines.facts import AccountFacts, ServerFacts, Unreadable
from rdsiam.findings.finding import Finding
from rdsiam.state.escalations import Escalation, Examined
from rdsiam.state.record import SecretRecord
from rdsiam.state.schemas import ObservedSchemas, PublicSchema

ACCOUNT = "123456789012"
AT = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
IAM = f"arn:aws:iam::{ACCOUNT}:"
ROLE = f"{IAM}role/app"
CONNECT_ROLE = f"{IAM}role/rdsiam-ConnectRole"
OPERATOR = f"{IAM}role/platform"

ACCESS = parse(f"""\
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readwrite, on: [shop], roles: ["{ROLE}"]}}
      - {{name: report, privileges: readonly, on: [shop], callers: [{{role: "{ROLE}"}}]}}
""")
ROTATING = parse(f"""\
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readwrite, on: [shop], roles: ["{ROLE}"]}}
      - {{name: report, privileges: readonly, on: [shop], callers: [{{role: "{ROLE}"}}]}}
    rotate: {{users: [etl], every: 30d}}
""")

TAGGED = parse(f"""\
version: 1
databases:
  - match: {{identifier: "*"}}
    users:
      - {{name: app, privileges: readwrite, on: [shop], roles: ["{ROLE}"]}}
      - {{name: report, privileges: readonly, on: [shop], callers: [{{role: "{ROLE}"}}]}}
  - match: {{tags: {{env: dev}}}}
    users:
      - {{name: dev, privileges: owner, on: [shop], callers: [{{role: "{IAM}role/developers"}}]}}
""")

POSTGRES = SelectedDatabase(
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:db:orders",
    identifier="orders",
    engine="postgres",
    engine_version="18.1",
    resource_id="db-ORDERS",
    status="available",
    host="orders.abc.eu-central-1.rds.amazonaws.com",
    port=5432,
    iam_enabled=True,
    master_user="boss",
    default_database="shop",
)
MYSQL = replace(
    POSTGRES,
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:db:carts",
    identifier="carts",
    engine="mysql",
    engine_version="8.4.5",
    resource_id="db-CARTS",
    host="carts.abc.eu-central-1.rds.amazonaws.com",
    port=3306,
)
MARIADB = replace(MYSQL, engine="mariadb", engine_version="11.8.2")
CLUSTER = replace(
    POSTGRES,
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:cluster:stock",
    identifier="stock",
    engine="aurora-postgresql",
    resource_id="cluster-STOCK",
    kind="cluster",
)

_READONLY = ("SELECT", "SHOW VIEW")
_READWRITE = tuple(
    sorted({*_READONLY, "INSERT", "UPDATE", "DELETE", "EXECUTE", "CREATE TEMPORARY TABLES", "LOCK TABLES"})
)


def pg(name: str, **more: Any) -> AccountFacts:
    """Return a role of PostgreSQL that accepts tokens; with `iam=False` a password."""
    iam = more.get("iam", True)
    return AccountFacts(**{"name": name, "iam": True, "tls": True, "password": False if iam else None, **more})


def my(name: str, host: str = "%", **more: Any) -> AccountFacts:
    """Return an account of MySQL that accepts tokens over TLS; with `iam=False` a password."""
    iam = more.get("iam", True)
    plugin = "AWSAuthenticationPlugin" if iam else "caching_sha2_password"
    return AccountFacts(
        **{"name": name, "host": host, "iam": True, "tls": True, "plugin": plugin, "password": not iam, **more}
    )


PG_CLEAN = ServerFacts(
    version="18.1",
    tls_enforced=True,
    databases=("postgres", "shop"),
    accounts=(
        pg("app", member_of=("shop_readwrite",)),
        pg("boss", iam=False, administrator=True),
        pg("rdsiam_auditor"),
        pg("rdsiam_manager", administrator=True),
        pg("report", member_of=("shop_readonly",)),
    ),
    examined=Examined(("postgres", "shop"), ()),
)
MY_CLEAN = ServerFacts(
    version="8.4.5",
    tls_enforced=True,
    databases=("shop",),
    accounts=(
        my("app", privileges={"shop": _READWRITE}),
        my("boss", iam=False, administrator=True),
        my("rdsiam_auditor"),
        my("rdsiam_manager", administrator=True),
        my("report", privileges={"shop": _READONLY}),
    ),
)
MANAGED: Mapping[str, Any] = dict.fromkeys(
    ("app", "report", "rdsiam_manager", "rdsiam_auditor", "shop_readonly", "shop_readwrite"), "created"
)


def with_accounts(facts: ServerFacts, *accounts: AccountFacts, **more: Any) -> ServerFacts:
    """Return facts with more accounts; they replace accounts of the same name and host."""
    new = {(one.name, one.host): one for one in (*facts.accounts, *accounts)}
    return replace(facts, accounts=tuple(new[key] for key in sorted(new)), **more)


def without_accounts(facts: ServerFacts, *names: str) -> ServerFacts:
    """Return facts without the accounts of these names."""
    return replace(facts, accounts=tuple(one for one in facts.accounts if one.name not in names))


def evaluate(
    database: SelectedDatabase = POSTGRES,
    facts: ServerFacts | Unreadable | None = None,
    access: AccessFile = ACCESS,
    *,
    proxies: Sequence[Proxy] = (),
    secrets: Sequence[SecretFacts] = (),
    recorded_secrets: Mapping[str, SecretRecord] | None = None,
    without_iam: Mapping[str, str | None] | None = None,
    **recorded: Any,
) -> tuple[Finding, ...]:
    """Evaluate a database that is in order except for the given changes.

    :param secrets: all secrets of the account.
    :param recorded_secrets: user → the secret that the inventory records.
    :param without_iam: as in `AccountContext`.
    :param recorded: other fields of `RecordedState`.
    """
    clean = PG_CLEAN if database.family == "postgres" else MY_CLEAN
    account = AccountContext(tuple(proxies), tuple(secrets), without_iam or {})
    state = RecordedState(**{"ownership": MANAGED, "secrets": recorded_secrets or {}, **recorded})
    return evaluate_database(database, clean if facts is None else facts, access, account, state, AT)


IDS = ResourceIds(
    known={one.resource_id: one.arn for one in (POSTGRES, MYSQL, CLUSTER)}, members={"db-MEMBER": "cluster-STOCK"}
)
DEPLOYMENT = Deployment(
    "aws",
    "eu-central-1",
    ACCOUNT,
    connect_roles=(CONNECT_ROLE, f"{CONNECT_ROLE}2"),
    stack_roles=frozenset({f"{IAM}role/rdsiam-OnboardFunctionRole"}),
    operators=(OPERATOR, f"{IAM}role/teams/*"),
)


def dbuser(user: str, resource_id: str = "db-ORDERS") -> str:
    """Return the ARN of a database user."""
    return f"arn:aws:rds-db:eu-central-1:{ACCOUNT}:dbuser:{resource_id}/{user}"


def allow(*resources: str, action: Any = "rds-db:connect", **more: Any) -> dict[str, Any]:
    """Return a statement."""
    return {"Sid": "LogIn", "Effect": "Allow", "Action": action, "Resource": list(resources), **more}


def inline(*statements: dict[str, Any], name: str = "logins") -> HeldPolicy:
    """Return an inline policy."""
    return HeldPolicy(name, None, {"Version": "2012-10-17", "Statement": list(statements)})


def managed(*statements: dict[str, Any], name: str = "logins", **more: Any) -> HeldPolicy:
    """Return a managed policy of the customer."""
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return HeldPolicy(name, f"{IAM}policy/{name}", document, **more)


ADMINISTRATOR = HeldPolicy(
    "AdministratorAccess",
    "arn:aws:iam::aws:policy/AdministratorAccess",
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]},
)


def role(*policies: HeldPolicy, arn: str = ROLE, **more: Any) -> Holder:
    """Return a role that holds policies."""
    return Holder(
        **{"arn": arn, "type": "role", "name": arn.rpartition("/")[2], "path": "/", "policies": policies, **more}
    )


def evaluate_role(*policies: HeldPolicy, access: AccessFile = ACCESS, **more: Any) -> tuple[Finding, ...]:
    """Evaluate one role that holds policies."""
    return evaluate_holders(role(*policies, **more), access=access)


def evaluate_holders(
    *holders: Holder,
    access: AccessFile = ACCESS,
    users: Mapping[str, Collection[str]] | None = None,
    logins: Mapping[str, Collection[Login]] | None = None,
) -> tuple[Finding, ...]:
    """Evaluate holders against the two databases and the cluster that are in order.

    :param logins: resource id → logins that onboarding gave.
    """
    databases = {one.resource_id: one for one in (POSTGRES, MYSQL, CLUSTER)}
    return evaluate_iam(holders, access, Fleet(IDS, databases, users or {}, logins or {}), DEPLOYMENT, AT)


def secret(username: str, database: SelectedDatabase = MYSQL, **more: Any) -> SecretFacts:
    """Return a secret that logs in to a database."""
    arn = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:{username}-AbCdEf"
    return SecretFacts(arn=arn, name=username, username=username, host=database.host, engine="mysql", **more)


def proxy(database: SelectedDatabase, **more: Any) -> Proxy:
    """Return a classic proxy in front of a database."""
    about: dict[str, Any] = {
        "arn": f"arn:aws:rds:eu-central-1:{ACCOUNT}:db-proxy:prx-1",
        "name": "front",
        "resource_id": "prx-1",
        "engine_family": "POSTGRESQL",
        "classic": True,
        "secret_arns": (),
        "users": ("pooled",),
        "targets": (database.identifier,),
        "tls_required": True,
    }
    return Proxy(**(about | more))


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
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("legacy", iam=False, tls=False))),
    ),
    "user-with-empty-password": Example(
        "`CREATE USER etl`",
        lambda: evaluate(MYSQL, with_accounts(MY_CLEAN, my("etl", iam=False, tls=False, empty_password=True))),
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
        lambda: evaluate(facts=with_accounts(PG_CLEAN, pg("helper"))),
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
