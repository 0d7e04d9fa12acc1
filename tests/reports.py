"""Reports for tests: small reports in which a test chooses every name, and hostile texts."""

from typing import Any

from hypothesis import strategies as st

from rdsiam.findings.finding import SEVERITIES, Finding, Remediation, Suppressed, stable_id

FINISHED = "2026-03-02T05:14:07Z"
STARTED = "2026-03-02T05:07:26Z"
BEFORE = "2026-02-23T05:14:07Z"
ACCOUNT, REGION = "123456789012", "eu-central-1"

#: Names that attackers choose, and names that break programs by accident.
HOSTILE = [
    "</script><script>window.broken=1</script>",
    "<!--<script>",
    "<img src=x onerror=window.broken=1>",
    '"><svg onload=window.broken=1>',
    "'\"`&amp;&lt;",
    "javascript:window.broken=1",
    "{{data}}{{style}}",
    "user\u202etxt.exe",
    "\u2066a\u2069\u200b\u200d\ufeff",
    "\x00\x01\x1b[31m",
    "a\u2028b\u2029c\r\n\td",
    "e\u0301\u0489" * 30,
    "\U000e0041\U000e0042",
    "\ud800 half",
    " leading and trailing ",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "-1+1",
    "'already",
    "__proto__",
    "constructor",
    "🦄" * 40,
    "ﷺ" * 200,
    "x" * 5000,
]

#: Any text, halves of surrogate pairs among it.
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(min_size=1, max_size=60),
    st.text(st.characters(), min_size=1, max_size=20),
)


def report_with(text: str, evidence: Any = None) -> dict[str, Any]:
    """Return a report in which every foreign name is `text`, with databases and findings of all sorts."""
    databases = [
        _database(text, "audited", f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{text}"),
        _database(text, "unknown", f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{text}")
        | {"stage": "login", "cause": text},
        _database(text, "replica", f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{text}-replica"),
    ]
    about = {text: text, "list": [text], "nested": {text: [text]}, "given": evidence}
    steps = tuple(Remediation(language, text, text) for language in ("sql", "cli", "cloudformation", "access"))
    role = f"arn:aws:iam::{ACCOUNT}:role/{text}"
    findings = [
        Finding(
            stable_id("a", text), "user-without-iam", "critical", databases[0]["arn"], text, text, about, steps, STARTED
        ),
        Finding(stable_id("b", text), text, "low", None, role, text, about, (), BEFORE),
        Finding(
            stable_id("c", text), "undeclared-user", "high", databases[1]["arn"], text, text, about, steps, BEFORE,
            Suppressed(text, "2027-01-01T00:00:00Z"),
        ),
    ]  # fmt: skip
    return {
        "schema_version": 1,
        "id": text,
        "started": STARTED,
        "finished": FINISHED,
        "account": ACCOUNT,
        "region": REGION,
        "scope": "all",
        "policies": {"read": True, "cause": None},
        "databases": databases,
        "findings": [each.to_json() for each in findings],
        "resolved": [
            {"id": stable_id("d", text), "kind": "missing-user", "severity": "low", "database": databases[0]["arn"],
             "user": text, "title": text, "first_seen": BEFORE, "resolved": FINISHED}
        ],
        "summary": {
            "databases": 3, "audited": 1, "unreachable": 1, "accounts": 4, "passwordless": 3, "share": 0.75,
            "findings": dict.fromkeys(SEVERITIES, 0) | {"critical": 1, "low": 1}, "suppressed": 1, "new": 1,
            "migrations": {"paired": 0, "proven": 0, "watching": 1, "retired": 0},
        },
        "onboardings": [{"database": databases[0]["arn"], "differences": ["databases", "users"]}],
        "trend": [
            {"id": "before", "finished": BEFORE, "share": 0.5, "accounts": 4,
             "findings": dict.fromkeys(SEVERITIES, 1), "unreachable": 0}
        ],
        "access_version": text,
    }  # fmt: skip


def _database(text: str, read: str, arn: str) -> dict[str, Any]:
    audited = read == "audited"
    return {
        "arn": arn,
        "identifier": text,
        "engine": "postgres",
        "engine_version": "17.4",
        "resource_id": "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "kind": "instance",
        "status": "available",
        "tags": {"env": text, "owner": text, text: text},
        "host": text,
        "public": False,
        "read": read,
        "stage": None,
        "cause": None,
        "accounts": {"total": 4 if audited else 0, "iam": 3 if audited else 0, "password": int(audited), "unusable": 0},
        "findings": dict.fromkeys(SEVERITIES, 0),
        "migrations": [
            {"user": text, "successor": text + "_iam", "state": "watching", "since": BEFORE, "until": FINISHED}
        ]
        if audited
        else [],
        "schemas": [{"database": text, "schemas": [text, "public"], "count": 1234}] if audited else [],
        "seconds": 0.12,
    }
