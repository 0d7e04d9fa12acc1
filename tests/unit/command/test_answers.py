"""An answer is printed with its reason and code on one line, and each remedy on a line of its own."""

from typing import Any

import pytest

from rdsiam.command import audit
from rdsiam.command.answers import Answer
from rdsiam.command.errors import ExitCode
from rdsiam.command.output import Output

PART = {"what": "arn:secret", "reason": "not recorded", "remedy": "delete it", "retry": False}


def answer(**fields: Any) -> Answer:
    document = {"status": "refused", "code": "", "reason": "", "remedy": "", "changes": [], "incomplete": []}
    return Answer.from_json(document | fields)


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"status": "unchanged"}, ["unchanged: app on orders"]),
        (
            {"code": "user-missing", "reason": "there is no user app", "remedy": "correct the name"},
            ["refused: there is no user app [user-missing]", "  → correct the name"],
        ),
        (
            {"reason": "no successor", "remedy": "add:\n  - match: {}\n    users: []"},
            ["refused: no successor", "  → add:", "  - match: {}", "    users: []"],
        ),
        (
            {"status": "retired", "reason": "not recorded", "incomplete": [PART]},
            ["not done: arn:secret: not recorded", "  → delete it", "retired: not recorded"],
        ),
        ({"reason": "evil \x1b[2J", "remedy": "\u202eno"}, ["refused: evil \\x1b[2J", "  → \\u202eno"]),
    ],
    ids=["no reason", "code and remedy", "lines to copy", "missing parts", "control characters"],
)
def test_each_remedy_has_a_line_of_its_own(capsys, fields, lines):
    answer(**fields).show(Output("table", quiet=False), "app on orders")
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize(
    ("status", "incomplete", "code"),
    [
        ("retired", [], ExitCode.OK),
        ("retired", [PART], ExitCode.INCOMPLETE),
        ("undone", [PART], ExitCode.INCOMPLETE),
        ("refused", [], ExitCode.DIFFERENT),
        ("planned", [PART], ExitCode.OK),
    ],
)
def test_an_answer_with_missing_parts_ends_with_7_unless_it_is_a_plan(status, incomplete, code):
    assert answer(status=status, incomplete=incomplete).exit_code({"retired", "undone"}) == code


def test_remediated_findings_have_reasons_and_remedies_and_a_part_of_several_findings_is_printed_once(capsys):
    outcome = {"kind": "missing-user", "database": "arn:orders", "changes": []}
    partial = outcome | {
        "status": "incomplete",
        "code": "",
        "reason": "not recorded",
        "remedy": "",
        "incomplete": [PART],
    }
    refused = outcome | {"status": "refused", "code": "role-not-managed", "reason": "no tag", "remedy": "tag it"}
    remediated = [partial | {"finding": "a"}, partial | {"finding": "b"}, refused | {"finding": "c", "incomplete": []}]
    code = audit._show_remediated({"plan": False, "remediated": remediated}, Output("table", quiet=True))
    assert code == ExitCode.DIFFERENT
    assert capsys.readouterr().err.splitlines() == [
        "not done: arn:secret: not recorded",
        "  → delete it",
        "a is incomplete: not recorded",
        "b is incomplete: not recorded",
        "c is refused: no tag [role-not-managed]",
        "  → tag it",
    ]
