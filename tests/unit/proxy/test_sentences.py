"""Sentences for clients: one line, bounded, harmless, without tokens, and with doctor's remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.doctor.known_errors import KNOWN_ERRORS
from rdsiam.proxy.sentences import explained, failed, one_line
from rdsiam.report.formatting import hidden

TOKEN = (
    "orders.example.com:5432/?Action=connect&DBUser=app&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20261127&X-Amz-Security-Token=IQoJb3JpZ2lu&X-Amz-Signature=0123456789abcdef"
)


@given(st.text(max_size=3000))
def test_any_text_becomes_one_bounded_line(text):
    for line in (one_line(text), explained(text, "orders"), str(failed(text, text, "code"))):
        assert not any(hidden(character) for character in line)
        assert len(line) <= 1000
    assert len(one_line(text)) <= 400


@pytest.mark.parametrize(
    "text",
    [TOKEN, f'password "{TOKEN}" is wrong', TOKEN.upper(), TOKEN.replace("&", " &"), f"a\n{TOKEN}\tb",
     f"{'x' * 380}{TOKEN}"],
)  # fmt: skip
def test_no_part_of_a_token_is_left(text):
    for line in (one_line(text), explained(text, "orders"), str(failed(text, text, "code"))):
        for part in ("0123456789abcdef", "IQoJb3JpZ2lu", "AKIDEXAMPLE"):
            assert part.lower() not in line.lower()


@pytest.mark.parametrize("problem", ["no", "User is not authorized to perform " * 30, "x" * 5000])
def test_a_long_problem_is_cut_and_its_remedy_stays_whole(problem):
    remedy = "ask an operator for the value of RDSIAM_API_URL, or for cloudformation:DescribeStacks"
    line = str(failed(problem, remedy, "denied"))
    assert line.startswith(problem[:250])
    assert line.endswith(f"; {remedy}")
    assert len(line) <= 400


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ('FATAL: PAM authentication failed for user "app"', "token"),
        ('role "app" is not permitted to log in', "rdsiam onboard orders"),
        ("FATAL: too many connections for role", "pool"),
        ('database "shop" does not exist', "rdsiam psql orders"),
        ("1045 Access denied for user 'app'@'10.0.0.1' (using password: YES)", "token"),
        ("3118 Access denied for user 'app'@'%'. Account is locked.", "rdsiam onboard orders"),
    ],
)
def test_a_known_message_of_a_server_gets_doctors_sentence(message, says):
    line = explained(message, "orders")
    assert line.startswith(message[:150])
    assert says in line


def test_an_unknown_message_stays_as_it_is():
    assert explained("the moon is in the way", "orders") == "the moon is in the way"


def test_every_known_error_fits():
    for known in KNOWN_ERRORS:
        line = one_line(f"{known.cause}; {known.fixes[0]}")
        assert not line.endswith("…"), known.cause
