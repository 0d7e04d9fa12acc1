"""Writes docs/findings.md: every kind of finding, with an example as the audit really gives it."""

import html
import json
from itertools import groupby

from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding, Remediation
from rdsiam.findings.kind import Kind
from tests.examples_of_findings import EXAMPLES

_HEAD = """\
# Findings

What the audit can find, and what mends it. This page is made from the code by `make findings`; its examples are run by
the tests.

- **One problem is one finding.** A login that nobody declared is one, whatever else is wrong with it: the same steps
  mend all of that. A password account without TLS is `user-without-iam` alone, one step worse for it.
- **Nothing is said about** RDS's and the engines' own accounts, the master (but that it lost its password), rdsiam's
  own users, users by whose password a classic proxy logs in (but that they take tokens, or have no password at all),
  and accounts that nobody can log in as: those are counted. A namesake of the master, or of rdsiam's users, with a host
  pattern of its own is judged like any other.
- **Severity** grows with exposure: `privileged` and `public` weigh 2, `any-host` and `clear-text` 1. From 2 on a
  finding is one step worse, from 4 on two, where its kind says that exposure moves it.
- **Ids** stay the same from run to run, and are other ones on a restored copy. Nothing that changes while the problem
  stays is part of them.
- **What mends it**: the steps of one way are all needed, in their order; after them the finding is gone. Another way
  does the same by itself. Statements are run by an administrator of the database, such as the master. Names in them are
  quoted; where a name can't be quoted safely, there is no statement.
- **Accepting one**: `suppress` in access.yaml, for a reason and a time ([access.yaml](access.md)). It stays visible.

"""
_LANGUAGES = {"sql": "sql", "cli": "sh", "cloudformation": "yaml", "access": "yaml"}


def as_markdown() -> str:
    """Return the page."""
    kinds = sorted(KINDS.values(), key=lambda one: one.id)
    table = ["| kind | severity | |", "|---|---|---|"]
    table += [f"| [`{one.id}`](#{one.id}) | {one.severity} | {_general(one)} |" for one in kinds]
    return _HEAD + "\n".join(table) + "\n\n" + "\n".join(_section(one) for one in kinds)


def _general(kind: Kind) -> str:
    return kind.title.format(user="…", database="…")


def _section(kind: Kind) -> str:
    example = EXAMPLES[kind.id]
    finding = next(one for one in example.findings() if one.kind == kind.id)
    lines = [
        f"## {kind.id}",
        "",
        f"{_general(kind)}. **Severity {kind.severity}.** {kind.moves}",
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
        "```json",
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
        lines += ["What mends it:" if way == 1 else "Or, instead:", ""]
        for step in steps:
            lines += _step(step)
    return lines


def _step(step: Remediation) -> list[str]:
    place = [f"In the database `{step.database}`:", ""] if step.database else []
    note = [step.note, ""] if step.note else []
    return [*note, *place, f"```{_LANGUAGES[step.language]}", step.text, "```", ""]
