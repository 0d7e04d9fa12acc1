"""An answer is printed with its reason and code on one line, and each remedy on a line of its own."""

import hashlib
import io
import json
from typing import Any, cast

import pytest

from rdsiam.command import audit, long_lists
from rdsiam.command.answers import Answer
from rdsiam.command.errors import ExecutionFailed, ExitCode
from rdsiam.command.output import Output

CUT = {"changes": [{"kind": "grant", "target": "app", "statement": "GRANT x"}], "changes_total": 21_004}
CUT |= {"changes_at": "s3://results/Onboard/changes-0.json"}
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
        (
            {"status": "incomplete", "reason": "not recorded", "incomplete": [PART]},
            ["not done: arn:secret: not recorded", "  → delete it", "incomplete: app on orders"],
        ),
        ({"reason": "evil \x1b[2J", "remedy": "\u202eno"}, ["refused: evil \\x1b[2J", "  → \\u202eno"]),
    ],
    ids=["no reason", "code and remedy", "lines to copy", "missing parts", "incomplete", "control characters"],
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


def test_an_answer_that_was_cut_says_how_many_changes_there_are_and_where(capsys):
    answer(status="planned", **CUT).show(Output("table"), "orders")
    printed = capsys.readouterr()
    assert "GRANT x" in printed.out
    expected = "1 of 21004 changes; all of them: s3://results/Onboard/changes-0.json (--all fetches them)"
    assert printed.err.splitlines() == [expected, "planned: orders"]


class S3:
    """S3 with one object."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def client(self, service: str) -> "S3":
        assert service == "s3"
        return self

    def get_object(self, **asked: str) -> dict[str, Any]:
        assert (asked["Bucket"], asked["Key"].split("-")[0]) == ("results", "Onboard/changes")
        return {"Body": io.BytesIO(self._body)}


def test_all_lists_are_fetched_also_those_of_parts():
    changes = [{"kind": "grant", "target": f"user{number}", "statement": "GRANT x"} for number in range(3)]
    body = json.dumps(changes).encode()
    at = f"s3://results/Onboard/changes-{hashlib.sha256(body).hexdigest()}.json"
    cut = {"changes": changes[:1], "changes_total": 3, "changes_at": at}
    aws: Any = S3(body)
    assert long_lists.fetch(aws, {"status": "planned"} | cut) == {"status": "planned", "changes": changes}
    assert long_lists.fetch(aws, {"remediated": [cut]}) == {"remediated": [{"changes": changes}]}
    untouched: dict[str, Any] = {"until": None, "found_at": "2026-01-01", "changes": [], "looked_at": "s3://results/x"}
    assert long_lists.fetch(aws, untouched) == untouched
    with pytest.raises(ExecutionFailed, match="not what was stored"):
        long_lists.fetch(cast("Any", S3(b"[]")), cut)
