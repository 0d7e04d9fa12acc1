"""Answers stay within the limits of Lambda, however many changes, parts, proofs or schemas there are."""

import json
from typing import Any

import pytest

from rdsiam.core.large_answers import LARGEST_LIST, bounded, whole
from tests.unit.results import Results

#: AWS accepts so much from a function that a durable function invokes.
CHAINED = 1024 * 1024


def change(number: int, statement: str = "GRANT SELECT ON `tenant`.* TO 'app'@'%'") -> dict[str, Any]:
    return {"kind": "grant", "target": f"app{number}", "statement": statement, "reversible": True}


def answer(**fields: Any) -> dict[str, Any]:
    return {
        "database": "arn",
        "status": "planned",
        "reason": "",
        "remedy": "",
        "changes": [],
        "incomplete": [],
    } | fields


def test_an_answer_with_room_for_everything_stays_as_it_is():
    results = Results()
    small = answer(changes=[change(number) for number in range(100)], proofs=[{"user": "app"}])
    assert bounded(small, results) == small
    assert results.texts == {}


@pytest.mark.parametrize(
    "changes",
    [
        [change(number) for number in range(20_000)],
        [change(number, "CREATE ROLE " + "é" * 5_000) for number in range(100)],
        [change(0, "x" * 2_000_000)],
        [change(number) for number in range(20)] + [change(20, "x" * 200_000)],
    ],
    ids=["many changes", "long statements beyond ASCII", "one statement that has no room", "the last one has no room"],
)
def test_an_answer_holds_the_first_changes_and_says_where_all_are(changes):
    results = Results()
    cut = bounded(answer(changes=changes), results)
    assert len(json.dumps(cut["changes"])) <= LARGEST_LIST
    assert cut["changes"] == changes[: len(cut["changes"])]
    assert cut["changes_total"] == len(changes)
    assert json.loads(results.get(cut["changes_at"])) == changes
    assert whole(cut, "changes", results) == changes


def test_a_list_fills_the_room_there_is():
    results = Results()
    cut = bounded(answer(changes=[change(number) for number in range(20_000)]), results)
    assert len(json.dumps(cut["changes"])) > LARGEST_LIST - 200


def test_all_lists_and_texts_together_have_room_in_a_chained_invocation():
    parts = [{"what": f"tenant_{n}", "reason": "r" * 300, "remedy": "m" * 300, "retry": False} for n in range(5_000)]
    full = answer(
        reason="; ".join(str(part["reason"]) for part in parts),
        remedy="m" * 10**6,
        changes=[change(number) for number in range(20_000)],
        incomplete=parts,
        proofs=[{"user": f"user{number}", "token_login": True} for number in range(20_000)],
        schemas=[{"database": f"tenant_{number}", "schemas": ["s" * 63] * 20} for number in range(500)],
        secrets=[{"user": f"user{number}", "secret": "arn:" + "s" * 200} for number in range(5_000)],
    )
    results = Results()
    cut = bounded(full, results)
    assert len(json.dumps(cut)) < CHAINED
    assert {name: whole(cut, name, results) for name in ("incomplete", "proofs", "schemas", "secrets")} == {
        name: full[name] for name in ("incomplete", "proofs", "schemas", "secrets")
    }
    assert cut["reason"].startswith("rrr")
    assert "cut" in cut["reason"]


def test_the_same_answer_is_stored_once():
    results = Results()
    full = answer(changes=[change(number) for number in range(20_000)])
    assert bounded(full, results) == bounded(full, results)
    assert len(results.texts) == 1
