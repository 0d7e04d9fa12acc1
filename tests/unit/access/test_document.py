"""access.yaml is read strictly: problems are named with line and key, and never with a value."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rdsiam.access import document
from rdsiam.access.model import parse
from rdsiam.core import similar
from rdsiam.errors import AccessFileInvalid
from tests.examples import at_most
from tests.unit.access.files import GOOD, problems


def test_a_good_file_is_read() -> None:
    file = parse(GOOD)
    app = file.databases[0].users[0]

    assert (app.name, app.privileges, app.on, app.adopt) == ("app", "readwrite", ["myapp"], False)
    assert app.callers[1].until == datetime(2026, 12, 31, tzinfo=UTC)
    assert app.callers[1].claim == {"groups": "oncall"}
    assert file.databases[0].match.engine == ["postgres"]
    assert file.auditors[0].role == "arn:aws:iam::123456789012:role/security"
    assert file.databases[0].suppress[0].finding == "user-without-iam"


CHANGES = [
    ("privileges:", "privilege:", "line 11: databases[0].users[0].privilege: unknown key; did you mean privileges?"),
    ("privileges:", "privilege:", "line 10: databases[0].users[0].privileges: is missing"),
    ("version: 1", "version: 2", "line 1: version: must be 1"),
    ("version: 1", "version: true", "line 1: version: must be 1"),
    ("version: 1", "version: 1.0", "line 1: version: must be 1"),
    ("version: 1", 'version: "1"', "line 1: version: must be 1"),
    ("version: 1", "", "line 2: version: is missing"),
    ("version: 1", "version: 1\nversion: 1", "line 2: version: duplicate key"),
    ("        on: [", "        name: b\n        on: [", "line 12: databases[0].users[0].name: duplicate key"),
    ("{groups: oncall}", "{groups: a, groups: b}", "callers[1].claim.groups: duplicate key"),
    ("{groups: oncall}", "{}", "line 16: databases[0].users[0].callers[1].claim: must not be empty"),
    ("{groups: oncall}", "{groups: 7}", "claim.groups: must be text; put it in quotes if it is"),
    ("{groups: oncall}", "{groups: yes}", "claim.groups: must be text; put it in quotes if it is"),
    ("{groups: oncall}", "{groups: [a]}", "claim.groups: must be text"),
    ("{groups: oncall}", '{groups: ""}', "claim.groups: must not be empty"),
    ("until: 2026-12-31T00:00:00Z", "until:", "line 17: databases[0].users[0].callers[1].until: has no value"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-12-31", "callers[1].until: must be a time with a zone"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-12-31T00:00:00", "callers[1].until: must be a time with a zone"),
    ("until: 2026-12-31T00:00:00Z", "until: 2026-02-30T00:00:00Z", "callers[1].until: is not in the calendar"),
    ("until: 2026-12-31T00:00:00Z", "until: 0001-01-01T00:00:00+10:00", "callers[1].until: is not in the calendar"),
    ("reason: required", "reason: yes", "line 18: databases[0].users[0].callers[1].reason: "),
    ("reason: required", "reason: maybe", "line 18: databases[0].users[0].callers[1].reason: "),
    ("- role: arn:aws:iam::123456789012:role/ci", "- {}", "callers[0]: needs exactly one of role and claim"),
    ("role/ci", "role/ci\n            claim: {a: b}", "callers[0]: needs exactly one of role and claim"),
    ("role/ci", "role/", "line 15: databases[0].users[0].callers[0].role: must be the full ARN of a role"),
    ("123456789012:role/ci", "12345:role/ci", "callers[0].role: must be the full ARN of a role"),
    ("123456789012:role/ci", "*:role/ci", "callers[0].role: must be the full ARN of a role"),
    ("arn:aws:iam::123456789012:role/ci", "arn:aws:iam::123456789012:user/ci", "must be the full ARN of a role"),
    *(
        (
            "arn:aws:iam::123456789012:role/ci",
            f"{session}/ann",
            "callers[0].role: is a session of a role: name the role",
        )
        for session in (
            "arn:aws:sts::123456789012:assumed-role/ci",
            "arn:aws-eusc:sts::123456789012:assumed-role/AWSReservedSSO_Dev_0123456789abcdef",
        )
    ),
    ("arn:aws:iam::123456789012:role/ci", "arn:awx:iam::123456789012:role/ci", "must be the full ARN of a role"),
    ("name: app", "name: 12", "line 10: databases[0].users[0].name: must be text"),
    ("[myapp]", "[]", "line 12: databases[0].users[0].on: must not be empty"),
    ("[myapp]", "{a: b}", "line 12: databases[0].users[0].on: must be a list"),
    ("[myapp]", "yes", "line 12: databases[0].users[0].on: must be a list"),
    ("[myapp]", "[a, 1]", "line 12: databases[0].users[0].on[1]: must be text"),
    ("privileges: readwrite", "privileges: admin", "line 11: databases[0].users[0].privileges: must be readonly,"),
    ("privileges: readwrite", "privileges: []", "line 11: databases[0].users[0].privileges: must be readonly,"),
    ("privileges: readwrite", "privileges: [SELECT, 1]", "users[0].privileges: must be readonly,"),
    (
        "engine: postgres",
        "engine: oracle",
        "line 6: databases[0].match.engine: must be one of aurora, aurora-mysql, aurora-postgresql, mariadb, mysql, "
        "postgres",
    ),
    ("engine: postgres", "engine: postgre", "postgres; did you mean postgres?"),
    ("privileges: readwrite", "privileges: readwrit", "a list of SQL privileges; did you mean readwrite?"),
    ("privileges: readwrite", "privileges: [SELECT, UPDAT]", "UPDATE; did you mean UPDATE?"),
    ("privileges: readwrite", "role: [x]", "users[0].role: unknown key; did you mean roles?"),
    ("engine: postgres", "engine: []", "line 6: databases[0].match.engine: must not be empty"),
    ("engine: postgres", "engine: neptune", "line 6: databases[0].match.engine"),
    ('"orders-*"', '"orders-[ab]"', "line 7: databases[0].match.identifier: must be a database's identifier"),
    ('"orders-*"', '""', "line 7: databases[0].match.identifier: must be a database's identifier"),
    ("{env: prod}", "{}", "line 8: databases[0].match.tags: must not be empty"),
    ("{env: prod}", "{env: 1}", "line 8: databases[0].match.tags.env: must be text"),
    ("        on: [", "        adopt: 1\n        on: [", "line 12: databases[0].users[0].adopt: must be true or false"),
    ("finding: user-without-iam", "finding: User!", "line 20: databases[0].suppress[0].finding"),
    ("user: etl, reason", "user: etl, because", "line 20: databases[0].suppress[0].reason: is missing"),
    ("vendor tool", " ", "line 20: databases[0].suppress[0].reason: must say why"),
    (", until: 2027-03-01T00:00:00Z", "", "line 20: databases[0].suppress[0].until: is missing"),
    ("[myapp]", "&anchor [myapp]", "line 12: databases[0].users[0].on: anchors are not allowed"),
    ("[myapp]", "*anchor", "line 12: databases[0].users[0].on: aliases are not allowed"),
    ("[myapp]", "!!python/name:os.system [myapp]", "line 12: databases[0].users[0].on: tags are not allowed"),
    ("name: app", "name: !!str app", "line 10: databases[0].users[0].name: tags are not allowed"),
    ("name: app", "? [a]\n        : b", "line 10: databases[0].users[0]: keys must be plain text"),
    ("name: app", "<<: {name: app}", "line 10: databases[0].users[0].<<: unknown key".replace("<<", '"<<"')),
    ("[myapp]", "[[[[[[[[[[[[[[[[[[", "nested too deeply"),
    ("[myapp]", "[myapp", "not valid YAML"),
    ("version: 1", "\tversion: 1", "line 1: not valid YAML"),
]


@pytest.mark.parametrize(("old", "new", "problem"), CHANGES, ids=[f"{new!r}"[:40] for _, new, _ in CHANGES])
def test_a_broken_rule_is_named_with_line_and_key(old: str, new: str, problem: str) -> None:
    assert old in GOOD

    found = problems(GOOD.replace(old, new, 1))

    assert any(problem in line for line in found), found
    assert all(re.match(r"line \d+: ", line) for line in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the file: is empty"),
        ("# nothing\n", "line 1: the file: is empty"),
        ("~", "line 1: the file: has no value"),
        ("[]", "line 1: the file: must be a mapping"),
        ("version: 1\ndatabases: []\n", "line 2: databases: must not be empty"),
        ("version: 1\n", "line 1: databases: is missing"),
        (GOOD + "---\nversion: 1\n", "a second document is not allowed"),
        (GOOD + "\0", "line 1: not valid YAML"),
        (GOOD + "# \ud800", "line 1: the file is not valid Unicode"),
        (GOOD + "#" * 1_000_000, "line 1: the file is larger than 1,000,000 bytes"),
        ("[" * 500_000, "nest"),
        ("{a: " * 100_000, "nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_texts_that_are_no_file_are_refused(text: str, problem: str) -> None:
    assert problem in problems(text)[-1]


def test_all_problems_are_named_at_once_in_the_order_of_lines() -> None:
    text = (
        GOOD.replace("version: 1", "version: 3").replace("name: app", "name: rdsadmin").replace("etl, ", "etl, x: y, ")
    )

    assert [problem.split(":")[0] for problem in problems(text)] == ["line 1", "line 10", "line 20"]


def test_problems_never_repeat_a_value() -> None:
    secret = "canary-5ecret!"
    text = GOOD
    for value in (
        "arn:aws:iam::123456789012:role/ci",
        "readwrite",
        "required",
        "2026-12-31T00:00:00Z",
        "user-without-iam",
    ):
        text = text.replace(value, f'"{secret}"')

    assert len(problems(text)) == 5
    assert secret not in str(problems(text))
    assert secret not in str(problems(f"a: '{secret}\nb: c: {secret}"))


def test_odd_keys_are_quoted_and_shortened() -> None:
    assert problems(GOOD.replace("adopt", "x") + '"a\\nb' + "c" * 100 + '": 1')[0].endswith('c": unknown key')


def test_many_problems_are_cut() -> None:
    found = problems("version: 1\ndatabases:\n" + "- {}\n" * 500)

    assert len(found) == 101
    assert found[-1] == "and 400 more"


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ndatabases:\n" + "- {mutch: {}}\n" * 2000,
        "version: 1\ndatabases: [{match: {identifier: x}, " + ", ".join(f"usres{n}: 1" for n in range(2000)) + "}]",
        "version: 1\ndatabases:\n- match: {identifier: x}\n  users:\n" + "  - {nmae: x}\n" * 2000,
    ],
    ids=["entries", "keys", "users"],
)
def test_only_the_problems_that_are_shown_are_explained(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guessed: list[Any] = []

    def guess(*given: Any) -> str:
        guessed.append(given)
        return ""

    monkeypatch.setattr(document, "did_you_mean", guess)

    found = problems(text)

    assert len(found) <= 101
    assert found[-1].endswith(" more")
    assert 0 < len(guessed) <= 100


@pytest.mark.parametrize("part", ["- *a\n", "- {a: 1, a: 2}\n"], ids=["aliases", "duplicate keys"])
def test_reading_ends_at_the_last_problem_that_is_shown(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    name = document._name

    def write(path: Any) -> Any:
        written.append(path)
        return name(path)

    monkeypatch.setattr(document, "_name", write)

    found = problems("version: 1\ndatabases:\n- &a {match: {identifier: x}}\n" + part * 2000)

    assert found[-1] == "and perhaps more"
    assert len(written) <= 101


def test_a_long_unknown_key_is_compared_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(key: str, *_: Any) -> list[str]:
        compared.append(key)
        return []

    monkeypatch.setattr(similar, "get_close_matches", compare)

    problems(GOOD + f"? {'x' * 100_000}\n: 1")

    assert [len(key) for key in compared] == [64]


@settings(max_examples=at_most(300))
@given(
    st.one_of(
        st.text(max_size=200),
        st.text("[]{}:,-&*!?|>'\"%@`#~\n \tab1", max_size=60),
        st.tuples(st.integers(0, len(GOOD)), st.text(max_size=5)).map(
            lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] :]
        ),
        st.integers(0, len(GOOD)).map(lambda cut: GOOD[:cut]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["version", "databases", "match", "users", "on", "a"]), inner, max_size=3
                ),
            ),
        ).map(lambda data: yaml.safe_dump(data, allow_unicode=True)),
    )
)
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except AccessFileInvalid as error:
        assert error.problems  # noqa: PT017


def test_the_slow_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, fast_problems = parse(GOOD), problems(GOOD.replace("name:", "nam:"))
    monkeypatch.setattr("rdsiam.access.document._LOADER", yaml.SafeLoader)

    assert parse(GOOD).model_dump() == fast.model_dump()
    assert problems(GOOD.replace("name:", "nam:")) == fast_problems
