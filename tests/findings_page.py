"""Writes docs/findings.md: every kind of finding, with an example as the audit gives it."""

import html
import json
from itertools import groupby

from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, Remediation
from rdsiam.findings.kind import Kind
from tests.examples_of_findings import EXAMPLES

_HEAD = """\
# Findings

All kinds of findings of the audit, and their remediation. `make findings` writes this page from the code; tests run its
examples.

- **One problem is one finding.** An undeclared login is one finding, whatever else is wrong with it: the same steps
  remedy all of that. A password account without TLS is `user-without-iam` alone, one step more severe.
- **No findings about** accounts of RDS and the engines, the master (unless it lost its password), rdsiam's own users,
  users by whose password a classic proxy logs in (unless they accept tokens, or have an empty password), and accounts
  that nobody can log in as: these are only counted. A namesake of the master, or of rdsiam's users, with a host pattern
  of its own is evaluated like any other account.
- **Severity** grows with exposure: `privileged` and `public` weigh 2, `any-host` and `clear-text` 1. From weight 2 a
  finding is one step more severe, from 4 two steps, if its kind depends on exposure.
- **Ids** stay the same from run to run, and differ on a restored copy. They contain nothing that changes while the
  problem stays.
- **Remediation**: the steps of one way are all needed, in their order; afterwards the finding is resolved. Another way
  does the same instead. The first way interrupts no client, if there is such a way: a user with a password
  [migrates](migration.md), or its password [rotates](rotation.md); it is locked only if it is unused, and the step says
  whether the audit saw a session. A change that restarts a database waits for its maintenance window.
- **Each step names the user that runs it, and the client.** A statement has the command line of psql, mysql or mariadb;
  `global-bundle.pem` is RDS's bundle of certificates
  (`curl -O https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem`), and the master's password is in the
  secret that RDS keeps, or with whoever set it. Names in statements are quoted; if a name can't be quoted safely, there
  is no statement.
- **Accepting a finding**: `suppress` in access.yaml, for a reason and a time ([access.yaml](access.md)). It stays
  visible.

"""
_LANGUAGES = {"sql": "sql", "cli": "sh", "cloudformation": "yaml", "access": "yaml"}


def as_markdown() -> str:
    """Return the page."""
    kinds = sorted(KINDS.values(), key=lambda one: one.id)
    table = ["| kind | severity | |", "|---|---|---|"]
    table += [f"| [`{one.id}`](#{one.id}) | {one.severity} | {_general(one)} |" for one in kinds]
    return _HEAD + "\n".join(table) + "\n\n" + "\n".join(_section(one) for one in kinds)


def _general(kind: Kind) -> str:
    return kind.title.format_map(dict.fromkeys([*kind.evidence, "user", "database"], "…"))


def _section(kind: Kind) -> str:
    example = EXAMPLES[kind.id]
    finding = next(one for one in example.findings() if one.kind == kind.id)
    lines = [
        f"## {kind.id}",
        "",
        f"{_general(kind)}. **Severity {kind.severity}.** {kind.severity_rule}",
        "",
        f"**Risk.** {kind.risk}",
        "",
        f"**Why.** {kind.why}",
        "",
        "| evidence | |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in kind.evidence.items()),
        "",
        f"**Example.** {example.done}",
        "",
        f"> **{finding.severity}**: {html.escape(finding.title, quote=False)}",
        "",
        "```json example",
        json.dumps(dict(finding.evidence), indent=2),
        "```",
        "",
        *_steps(finding),
        "References: " + ", ".join(f"<{one}>" for one in kind.references),
        "",
    ]
    return "\n".join(lines)


def _steps(finding: Finding) -> list[str]:
    lines = []
    for way, steps in groupby(finding.remediation, key=lambda one: one.way):
        lines += ["Remediation:" if way == 1 else "Or, instead:", ""]
        for step in steps:
            lines += _step(step)
    return lines


def _step(step: Remediation) -> list[str]:
    place = f", in the database `{step.database}`" if step.database else ""
    note = f" {step.note}" if step.note else ""
    by = f"*{step.user}*, with {_code(step.client)}{place}.{note}"
    return [by, "", f"```{_LANGUAGES[step.language]} example", step.text, "```", ""]


def _code(client: str) -> str:
    return client if client in {"AWS CLI", "CloudFormation"} or client.startswith("a ") else f"`{client}`"
