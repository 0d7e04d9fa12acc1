"""A fleet that is in order, changes to it, and the findings of the audit: for tests that need no server."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import SelectedDatabase
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
from rdsiam.state.escalations import Examined
from rdsiam.state.record import SecretRecord

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
    parameter_group="orders-parameters",
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
    parameter_group="default.mysql8.4",
)
MARIADB = replace(MYSQL, engine="mariadb", engine_version="11.8.2", parameter_group="default.mariadb11.8")
CLUSTER = replace(
    POSTGRES,
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:cluster:stock",
    identifier="stock",
    engine="aurora-postgresql",
    resource_id="cluster-STOCK",
    kind="cluster",
    parameter_group="default.aurora-postgresql18",
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
