"""The template's permissions: no wildcard without a reason, no action without a call, and a list that is current."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from localcloud.aws.statements import as_markdown, calls, needed_by, statements
from rdsiam.events.aliases import ACCEPTED

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
CODE = ROOT / "layers" / "rdsiam" / "rdsiam"


def problems(template: Path) -> list[str]:
    """Return what is wrong with the permissions of a template."""
    known = calls(CODE)
    unexplained = {sid for sid, reason in reasons(template.read_text()) if not reason}
    found = []
    for statement in statements(template):
        if not statement.sid:
            found.append(f"{statement.role} {statement.policy}: a statement has no Sid")
        if statement.effect != "Allow":
            continue
        if any("*" in resource for resource in statement.resources) and statement.sid in unexplained:
            found.append(f"{statement.sid}: a wildcard, and no comment directly above says why")
        for action in statement.actions:
            if "*" in action:
                found.append(f"{statement.sid}: {action} is a wildcard")
            elif needed_by(action, known) is None:
                found.append(f"{statement.sid}: no call needs {action}")
    return found


def reasons(text: str) -> list[tuple[str, bool]]:
    """Return the Sid of each statement, and whether a comment stands directly above it."""
    pairs = pairwise(["", *text.splitlines()])
    sids = ((re.match(r"\s*(?:- )?\{?Sid: (\w+)", line), above) for above, line in pairs)
    return [(sid[1], above.strip().startswith("#")) for sid, above in sids if sid]


def test_every_permission_is_needed_and_every_wildcard_has_its_reason():
    assert problems(TEMPLATE) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Action: [dynamodb:PutItem]", 'Action: ["*"]', "RecordDecisions: * is a wildcard"),
        (
            "Action: [dynamodb:PutItem]",
            "Action: [dynamodb:BatchWriteItem]",
            "RecordDecisions: no call needs dynamodb:BatchWriteItem",
        ),
        ("Resource: !GetAtt DecisionsTable.Arn}", 'Resource: "*"}', "RecordDecisions: a wildcard, and no comment"),
        ("- {Sid: RecordDecisions, Effect", "- {Effect", "VendFunctionRole own: a statement has no Sid"),
    ],
)
def test_a_permission_too_many_is_seen(tmp_path, old, new, problem):
    text = TEMPLATE.read_text()
    assert old in text
    (tmp_path / "template.yaml").write_text(text.replace(old, new))
    assert any(found.startswith(problem) for found in problems(tmp_path / "template.yaml"))


def test_the_list_of_permissions_is_current():
    assert (ROOT / "docs" / "permissions.md").read_text() == as_markdown(TEMPLATE, CODE, ACCEPTED), (
        "run `make permissions`"
    )
