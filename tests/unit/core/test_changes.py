"""Changes, refusals and parts that were not done survive a checkpoint."""

import json

import pytest

from rdsiam.core.changes import Change, Reason, Refusal, Unconfirmed, Unreached
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
