"""New passwords: of every kind, of the length asked for, and free of what is excluded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.aws.secrets.value import PasswordRules
from rdsiam.errors import InvalidRequest
from rdsiam.rotation.passwords import CHARACTER_KINDS, LONGEST, new_password

ALL = "".join(CHARACTER_KINDS)
NEVER = set("/\"@' \\:`$%&")


@given(st.integers(8, 128), st.sampled_from(["postgres", "mysql"]), st.text("abcXYZ019*+,-.=_~", max_size=12))
def test_passwords_follow_the_rules(length, family, excluded):
    rules = PasswordRules(length, excluded)
    if length > LONGEST[family]:
        with pytest.raises(InvalidRequest):
            new_password(rules, family)
        return
    password = new_password(rules, family)
    assert len(password) == length
    assert not set(password) & (set(excluded) | NEVER)
    assert all(set(kind) - set(excluded) & set(kind) == set() or set(kind) & set(password) for kind in CHARACTER_KINDS)


def test_no_two_passwords_are_alike():
    assert len({new_password(PasswordRules(), "mysql") for _ in range(100)}) == 100


@pytest.mark.parametrize("rules", [PasswordRules(7), PasswordRules(32, ALL[:65])], ids=["short", "few"])
def test_rules_for_passwords_that_could_be_guessed_are_refused(rules):
    with pytest.raises(InvalidRequest):
        new_password(rules, "postgres")
