"""A report of a made-up fleet, as large as asked for and always the same: for the page's tests, bench and picture."""

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rdsiam.findings.finding import SEVERITIES, Finding, Remediation, Severity, Suppressed, stable_id

REGION = "eu-central-1"
ACCOUNT = "123456789012"  # an installation audits one account, in one region
FINISHED = datetime(2026, 3, 2, 5, 14, 7, tzinfo=UTC)
_ENGINES = {
    "postgres": ("17.4", 38),
    "aurora-postgresql": ("16.8", 27),
    "mysql": ("8.4.5", 15),
    "aurora-mysql": ("8.0.mysql_aurora.3.08.1", 12),
    "mariadb": ("11.4.5", 8),
}
_SERVICES = [
    "orders",
    "payments",
    "ledger",
    "catalog",
    "search",
    "pricing",
    "shipping",
    "returns",
    "invoices",
    "customers",
    "sessions",
    "loyalty",
    "inventory",
    "warehouse",
    "routing",
    "tracking",
    "coupons",
    "reviews",
    "media",
    "profiles",
    "consent",
    "messages",
    "notifications",
    "scheduling",
    "forecast",
    "planning",
    "billing",
    "refunds",
    "fraud",
    "scoring",
    "identity",
    "directory",
    "audit-log",
    "reporting",
    "metrics",
    "exports",
    "imports",
    "archive",
    "content",
    "wishlist",
    "basket",
    "checkout",
    "tax",
    "currency",
    "suppliers",
    "contracts",
    "claims",
    "support",
    "tickets",
    "feedback",
]
_ENVIRONMENTS = {"prod": 46, "staging": 24, "dev": 20, "sandbox": 6, "": 4}
_TEAMS = [
    "platform",
    "payments",
    "storefront",
    "logistics",
    "data-engineering",
    "customer-care",
    "finance",
    "growth",
    "identity",
    "search",
    "fulfilment",
]
_USERS = [
    "app_service",
    "app_readonly",
    "migrations",
    "etl_nightly",
    "reporting",
    "bi_export",
    "worker",
    "scheduler",
    "dashboards",
    "batch_loader",
    "legacy_etl",
    "sync",
    "monitoring_agent",
    "admin_tools",
    "data_science",
    "qa_runner",
    "webhook_sender",
]
_CAUSES = {
    "time": ("gave up after 20 s", 18),
    "port": ("connect to {host} port {port}: no answer within 5 s", 14),
    "login": ('FATAL: PAM authentication failed for user "rdsiam_auditor"', 9),
    "state": ("RDS says that it is stopped", 6),
    "iam": ("IAM database authentication is off", 4),
    "name": ("{host}: Name or service not known", 2),
}
#: kind → how often, severities that it comes in, title.
_KINDS: Mapping[str, tuple[int, tuple[str, ...], str]] = {
    "user-without-iam": (46, ("high", "medium", "medium", "medium", "low"), "{user} logs in with a password"),
    "undeclared-user": (14, ("high", "medium", "medium"), "{user} is declared nowhere in access.yaml"),
    "user-with-second-password": (8, ("high", "high", "medium"), "{user} can log in with a password beside IAM"),
    "privileges-differ": (8, ("medium", "low", "low"), "{user} may do more than access.yaml says"),
    "tls-not-enforced": (6, ("high", "medium"), "Logins without TLS are accepted"),
    "group-with-rds-iam": (3, ("high", "medium"), "Members of {user} inherit rds_iam"),
    "missing-user": (4, ("low",), "{user} is declared and does not exist"),
    "anonymous-user": (1, ("critical",), "Anybody logs in without a name"),
    "empty-password": (1, ("critical",), "{user} logs in with an empty password"),
    "administrator-locked-out": (1, ("critical", "high"), "The administrator {user} is caught by rds_iam"),
    "secret-of-iam-user": (3, ("medium", "low"), "A secret still holds a password of {user}"),
    "wildcard-connect-policy": (2, ("critical", "high", "high"), "A policy lets {user} connect as anybody"),
    "stale-resource-id": (2, ("medium", "low"), "A policy names a database that is gone"),
    "rotation-stuck": (1, ("medium",), "The rotation of {user}'s password is stuck"),
}

_POSTGRES = {"group-with-rds-iam", "administrator-locked-out"}
_MYSQL = {"anonymous-user", "empty-password"}


def sample(databases: int = 1000, findings: int = 5000, runs: int = 26, seed: int = 7) -> dict[str, Any]:
    """Return a report.

    :param findings: that are open; one in fifty more is suppressed.
    :param runs: weekly runs before this one.
    """
    chance = random.Random(seed)  # noqa: S311
    fleet = [_database(chance, number) for number in range(databases)]
    read = [each for each in fleet if each["read"] == "audited"]
    unread = [each for each in fleet if each["read"] == "unknown"]
    started = _time(FINISHED - timedelta(minutes=6, seconds=41))
    found = [_unreachable(each, chance, started) for each in unread][:findings]
    while len(found) < findings:
        found.append(_finding(chance, _left(chance, read), started, runs))
    suppressed = [
        _suppress(chance, _finding(chance, _left(chance, read), started, runs)) for _ in range(findings // 50)
    ]
    resolved = [_finding(chance, chance.choice(read), started, runs) for _ in range(findings // 80)]
    _count(fleet, found)
    states = _migrate(random.Random(seed), [each for each in read if each["accounts"]["password"]])  # noqa: S311
    accounts = sum(each["accounts"]["total"] for each in read)
    passwordless = sum(each["accounts"]["total"] - each["accounts"]["password"] for each in read)
    share = passwordless / accounts if accounts else None
    severities = Counter(each.severity for each in found)
    report: dict[str, Any] = {
        "schema_version": 1,
        "id": "20260302T050726Z-7f3a9c1e",
        "started": started,
        "finished": _time(FINISHED),
        "account": ACCOUNT,
        "region": REGION,
        "databases": sorted(fleet, key=lambda each: each["arn"]),
        "findings": [each.to_json() for each in _sorted([*found, *suppressed])],
        "onboardings": [],
        "resolved": [
            {key: value for key, value in each.to_json().items() if key in _OF_RESOLVED} | {"resolved": _time(FINISHED)}
            for each in _sorted(resolved)
        ],
        "summary": {
            "databases": databases,
            "audited": len(read),
            "unreachable": len(unread),
            "accounts": accounts,
            "passwordless": passwordless,
            "share": share,
            "findings": {severity: severities[severity] for severity in SEVERITIES},
            "suppressed": len(suppressed),
            "new": sum(each.first_seen == started for each in found),
            "migrations": {state: states[state] for state in ("paired", "proven", "watching", "retired")},
        },
        "trend": _trend(chance, runs, share or 0.0, accounts, severities),
        "access_version": "Yx3kQ9.vTtB2m1sZpR8wLcF0hNdE7uJa",
        "scope": "all",
        "policies": {"read": True, "cause": None},
    }
    return report


_OF_RESOLVED = ("id", "kind", "severity", "database", "user", "title", "first_seen")


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.database or "", f.user or "", f.id))


def _pick(chance: random.Random, weights: Mapping[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def _database(chance: random.Random, number: int) -> dict[str, Any]:
    engine = _pick(chance, {name: weight for name, (_, weight) in _ENGINES.items()})
    environment, team = _pick(chance, _ENVIRONMENTS), chance.choice(_TEAMS)
    service = _SERVICES[number % len(_SERVICES)]
    identifier = f"{service}-{environment or 'test'}" + (f"-{number // len(_SERVICES) + 1}" if number >= 50 else "")
    cluster = engine.startswith("aurora")
    read = _pick(chance, {"audited": 890, "unknown": 53, "replica": 48, "proxy": 9})
    kind = "proxy" if read == "proxy" else "cluster" if cluster else "instance"
    what = {"proxy": "db-proxy", "cluster": "cluster", "instance": "db"}[kind]
    host = f"{identifier}.{'cluster-' if cluster else ''}c9akciq32rtu.{REGION}.rds.amazonaws.com"
    stage = _pick(chance, {name: weight for name, (_, weight) in _CAUSES.items()}) if read == "unknown" else None
    total = chance.randint(3, 24) if read == "audited" else 0
    # Most are done, some are half way, few have not begun.
    left = min(total, chance.choices((0, chance.randint(1, 3), chance.randint(2, 14)), (62, 24, 14))[0])
    unusable = chance.randint(0, min(1, total - left))
    return {
        "arn": f"arn:aws:rds:{REGION}:{ACCOUNT}:{what}:{identifier}",
        "identifier": identifier,
        "engine": engine,
        "engine_version": _ENGINES[engine][0],
        "resource_id": f"{'cluster' if cluster else 'db'}-{chance.getrandbits(100):026X}",
        "kind": kind,
        "status": "stopped" if stage == "state" else "available",
        "tags": {"owner": team} | ({"env": environment} if environment else {}),
        "host": host,
        "public": chance.random() < 0.015,
        "read": read,
        "stage": stage,
        "cause": _CAUSES[stage][0].format(host=host, port=5432 if "postgres" in engine else 3306) if stage else None,
        "accounts": {"total": total, "iam": total - left - unusable, "password": left, "unusable": unusable},
        "findings": dict.fromkeys(SEVERITIES, 0),
        "migrations": [],
        "schemas": [{"database": "app", "schemas": ["audit", "public"], "count": 2}]
        if read == "audited" and "postgres" in engine
        else [],
        "seconds": round(chance.uniform(0.04, 0.9), 2),
    }


def _migrate(chance: random.Random, databases: list[dict[str, Any]]) -> Counter[str]:
    """Have a user of every eighth of these databases on its way, and count the states."""
    states: Counter[str] = Counter()
    for database in databases[::8]:
        user, state = chance.choice(_USERS), chance.choice(("proven", "watching", "watching", "retired"))
        since = FINISHED - timedelta(hours=chance.randint(1, 160))
        until = _time(since + timedelta(days=7)) if state == "watching" else None
        line = {"user": user, "successor": f"{user}_iam", "state": state, "since": _time(since), "until": until}
        database["migrations"] = [line]
        states[state] += 1
    return states


def _left(chance: random.Random, read: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a database, the likelier the more passwords it has left."""
    return chance.choices(read, [2 + each["accounts"]["password"] for each in read])[0]


def _finding(chance: random.Random, database: dict[str, Any], started: str, runs: int) -> Finding:
    mysql = "postgres" not in database["engine"]
    kinds = {name: each[0] for name, each in _KINDS.items() if name not in (_POSTGRES if mysql else _MYSQL)}
    kind = _pick(chance, kinds)
    _, severities, title = _KINDS[kind]
    number = chance.randint(1, 99)
    user = chance.choice(_USERS) + (f"_{number}" if number > 30 else "")
    label = f"{user}@%" if mysql else user
    severity = chance.choice(severities)
    if kind == "user-without-iam" and database["public"]:
        severity = "critical"
    if kind == "tls-not-enforced":
        label = ""
    if kind == "anonymous-user":
        label = "@%"
    if kind in {"wildcard-connect-policy", "stale-resource-id"}:
        label = f"arn:aws:iam::{database['arn'].split(':')[4]}:role/{chance.choice(_SERVICES)}-{user.replace('_', '-')}"
    return Finding(
        id=stable_id(kind, database["resource_id"], label, str(chance.random())),
        kind=kind,
        severity=severity,  # type: ignore[arg-type]
        database=None if kind == "wildcard-connect-policy" else database["arn"],
        user=label or None,
        title=title.format(user=label),
        evidence=_evidence(chance, kind, database, mysql),
        remediation=_remediation(kind, database, user, mysql),
        first_seen=started
        if chance.random() < 0.015
        else _time(FINISHED - timedelta(weeks=chance.randint(1, runs or 1))),
    )


def _evidence(chance: random.Random, kind: str, database: dict[str, Any], mysql: bool) -> dict[str, Any]:
    if kind == "wildcard-connect-policy":
        return {
            "policy": "inline: connect-anywhere",
            "action": "rds-db:connect",
            "resource": "arn:aws:rds-db:*:*:dbuser:*/*",
        }
    if kind == "stale-resource-id":
        return {"policy": "app-db-connect", "resource_id": f"db-{chance.getrandbits(100):026X}", "exists": False}
    if kind == "tls-not-enforced":
        return {"parameter": "require_secure_transport" if mysql else "rds.force_ssl", "value": "0"}
    plugin = {"plugin": chance.choice(("caching_sha2_password", "mysql_native_password"))} if mysql else {}
    return plugin | {
        "iam": kind in {"user-with-second-password", "privileges-differ"},
        "administrator": kind == "administrator-locked-out" or chance.random() < 0.06,
        "tls_required": chance.random() < 0.5,
        "public_endpoint": database["public"],
        "owns": chance.choice((0, 0, 0, 3, 41)),
        "sessions": chance.choice((0, 0, 1, 6)),
        "member_of": ["readwrite"] if chance.random() < 0.3 else [],
    }


def _remediation(kind: str, database: dict[str, Any], user: str, mysql: bool) -> tuple[Remediation, ...]:
    account = f"'{user}'@'%'"
    if kind == "tls-not-enforced":
        name, group = (
            ("require_secure_transport", "mysql8-default") if mysql else ("rds.force_ssl", "postgres17-default")
        )
        command = (
            f"aws rds modify-db-parameter-group --db-parameter-group-name {group} \\\n"
            f"  --parameters ParameterName={name},ParameterValue=1,ApplyMethod=immediate"
        )
        return (Remediation("cli", command), Remediation("cloudformation", f"Parameters:\n  {name}: '1'"))
    if kind == "wildcard-connect-policy":
        return (Remediation("cli", f"aws iam delete-role-policy --role-name {user} --policy-name connect-anywhere"),)
    if kind == "stale-resource-id":
        return (
            Remediation("cli", f"aws iam detach-role-policy --role-name {user} --policy-arn arn:aws:iam::aws:policy/x"),
        )
    entry = (
        "databases:\n"
        f"  - match: {{identifier: {database['identifier']}}}\n"
        f"    users:\n      - {{name: {user}, privileges: readwrite, on: [app]}}"
    )
    if mysql:
        statement = f"ALTER USER {account} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS';"
        return (Remediation("sql", statement), Remediation("access", entry))
    statement = f'ALTER ROLE "{user}" PASSWORD NULL;\nGRANT rds_iam TO "{user}";'
    return (Remediation("sql", statement, "postgres"), Remediation("access", entry))


def _unreachable(database: dict[str, Any], chance: random.Random, started: str) -> Finding:
    stage = database["stage"]
    kind = "iam-authentication-off" if stage == "iam" else "database-unreachable"
    command = (
        f"aws rds modify-db-instance --db-instance-identifier {database['identifier']} \\\n"
        "  --enable-iam-database-authentication --apply-immediately"
    )
    return Finding(
        id=stable_id(kind, database["resource_id"]),
        kind=kind,
        severity="low" if stage == "state" else "high",
        database=database["arn"],
        user=None,
        title="IAM authentication is off" if stage == "iam" else f"{database['identifier']} could not be read",
        evidence={"stage": stage, "cause": database["cause"]},
        remediation=(Remediation("cli", command),) if stage == "iam" else (),
        first_seen=started if chance.random() < 0.2 else _time(FINISHED - timedelta(weeks=chance.randint(1, 9))),
    )


def _suppress(chance: random.Random, finding: Finding) -> Finding:
    reason = chance.choice(
        (
            "vendor tool without IAM support, TICKET-4127",
            "goes with the migration in May",
            "read-only replica feed, accepted by security",
        )
    )
    until = _time(FINISHED.replace(hour=0, minute=0, second=0) + timedelta(days=chance.randint(4, 300)))
    return Finding(**{**vars(finding), "suppressed": Suppressed(reason, until)})


def _count(fleet: list[dict[str, Any]], found: list[Finding]) -> None:
    by_arn = {each["arn"]: each["findings"] for each in fleet}
    for finding in found:
        if finding.database:
            by_arn[finding.database][finding.severity] += 1


def _trend(
    chance: random.Random, runs: int, share: float, accounts: int, now: Mapping[Severity, int]
) -> list[dict[str, Any]]:
    """Return past runs, oldest first, that lead up to this one: slow at first, a setback, then steady."""
    trend, past = [], share
    for week in range(1, runs + 1):
        past -= chance.uniform(0.002, 0.03) if week % 9 else -0.012
        finished = FINISHED - timedelta(weeks=week)
        grown = 1 + week / 18
        trend.append(
            {
                "id": f"{finished:%Y%m%dT%H%M%SZ}-{chance.getrandbits(32):08x}",
                "finished": _time(finished),
                "share": max(0.05, past),
                "accounts": round(accounts * (1 - week / 140)),
                "findings": {severity: round(now[severity] * grown) for severity in SEVERITIES},
                "unreachable": chance.randint(38, 71),
            }
        )
    return trend[::-1]


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
