"""Changes, refusals and parts that were not done survive a checkpoint."""

import json

import pytest

from rdsiam.core.changes import Change, Reason, Refusal, Unconfirmed, Unreached, summarize
from rdsiam.errors import AccessFileInvalid, InvalidRequest, RdsiamError, Refused

GRANT = Change("grant", "app", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO app", authority="master")


@pytest.mark.parametrize(
    "result",
    [
        GRANT,
        Unreached("orders", "it is stopped", "start it", retry=False),
        Unconfirmed("orders", "needs confirmation: tag env", "confirm it", retry=False),
        Reason("app is retired"),
        Refusal("a", "b", "needs-confirmation"),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_result_is_rebuilt_from_its_json(result):
    assert type(result).from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (Refused("role x is full", "use another role", "role-not-found"), ("role x is full", "use another role")),
        (AccessFileInvalid(["line 3: users"]), ("access.yaml: line 3: users", "")),
        (
            InvalidRequest("arn:secret AWSCURRENT: host", "must be text"),
            ("arn:secret AWSCURRENT: host: must be text", ""),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_becomes_a_refusal_with_its_code(error: RdsiamError, refusal: tuple[str, str]):
    made = Refusal.of(error)
    assert (made.problem, made.remedy, made.code) == (*refusal, error.code)


def test_a_refused_part_always_has_a_remedy():
    part = Refusal("role x is full", "", "refused").missing("orders")
    assert (part.reason, part.retry) == ("role x is full", False)
    assert "do what the reason says" in part.remedy


def closed(*names: str, reason: str = "its connection limit is 0") -> list[Unreached]:
    return [Unreached(name, reason, "raise it", retry=False) for name in names]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (closed(), ""),
        (closed("archive"), "archive: its connection limit is 0"),
        (
            [*closed("archive", "old"), *closed("half", reason="its DROP DATABASE was interrupted")],
            "archive, old: its connection limit is 0; half: its DROP DATABASE was interrupted",
        ),
        (closed("archive", "archive"), "archive: its connection limit is 0"),
        (
            closed(*(f"tenant_{n}" for n in range(5000))),
            "tenant_0, tenant_1, tenant_2, 4997 more: its connection limit is 0",
        ),
    ],
    ids=["none", "one", "two reasons", "a part that is named twice", "5,000 databases"],
)
def test_the_line_about_missing_parts_names_their_subjects(parts, line):
    assert summarize(parts) == line


def test_the_line_does_not_repeat_the_subject_of_the_answer():
    parts = [*closed("archive"), *closed("orders", reason="a role app exists")]
    assert summarize(parts, "orders") == "archive: its connection limit is 0; a role app exists"
    assert summarize(closed("orders", "archive"), "orders") == "orders, archive: its connection limit is 0"


def test_the_line_about_missing_parts_stays_short_however_many_reasons_there_are():
    line = summarize([*closed("a"), *(part for n in range(5000) for part in closed("b", reason=f"reason {n}"))])
    assert line.startswith("a: its connection limit is 0; b: reason 0; ")
    assert line.endswith("b: reason 8; 4991 further reasons")
