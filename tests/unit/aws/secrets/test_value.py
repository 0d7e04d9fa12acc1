"""A secret's JSON is hostile input: read or refused, and never repeated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.aws.secrets.value import read_master, read_secret
from rdsiam.errors import InvalidRequest

GOOD = {"engine": "postgres", "host": "h.example", "port": "5432", "username": "app", "password": "hidden-word"}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_next_version_has_another_login_and_all_other_keys_unchanged():
    secret = read_secret(json.dumps(GOOD | {"note": {"deep": [1, None]}, "ssl": False}))
    new = secret.with_login("app_clone", "another")
    assert json.loads(new.text()) == GOOD | {
        "note": {"deep": [1, None]}, "ssl": False, "username": "app_clone", "password": "another"
    }  # fmt: skip
    assert new.place == secret.place


def test_neither_text_nor_password_is_in_its_representation():
    secret = read_secret(json.dumps(GOOD | {"note": "hidden-note"}))
    assert "hidden" not in repr(secret)
    assert "hidden" not in repr(read_master(json.dumps(GOOD)))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"engine": "oracle"}, "engine"),
        ({"engine": ["postgres"]}, "engine"),
        ({"username": ""}, "username"),
        ({"username": "a\nb"}, "username"),
        ({"username": "a\0b"}, "username"),
        ({"username": "x" * 81}, "username"),
        ({"password": 7}, "password"),
        ({"password": ""}, "password"),
        ({"host": None}, "host"),
        ({"host": "evil.example/path"}, "host"),
        ({"host": "evil.example hostaddr=10.0.0.1"}, "host"),
        ({"port": 0}, "port"),
        ({"port": True}, "port"),
        ({"port": "65536"}, "port"),
        ({"port": "54 32"}, "port"),
        ({"dbInstanceIdentifier": "a b"}, "dbInstanceIdentifier"),
        ({"masterarn": "arn:aws:iam::123456789012:role/x"}, "masterarn"),
        ({"passwordLength": 7}, "passwordLength"),
    ],
    ids=str,
)
def test_a_wrong_key_is_named_and_its_value_not_repeated(changed, field):
    with pytest.raises(InvalidRequest) as refused:
        read_secret(json.dumps(GOOD | changed))
    assert refused.value.field == field
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [None, 7, b"{}", "", "hidden", '["hidden"]', '"hidden"', '{"password": "hidden", "password": "x"}', "[" * 100_000,
     json.dumps(GOOD | {"note": "x" * 70_000})],
    ids=["none", "number", "bytes", "empty", "no JSON", "list", "text", "key twice", "deep", "large"],
)  # fmt: skip
def test_text_that_is_no_json_object_is_refused_and_not_repeated(text):
    with pytest.raises(InvalidRequest) as refused:
        read_secret(text)
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@given(st.dictionaries(st.sampled_from([*GOOD, "masterarn", "dbname", "passwordLength"]) | st.text(), json_values))
def test_any_object_is_read_or_refused(changed):
    text = json.dumps(GOOD | changed)
    try:
        secret = read_secret(text)
    except InvalidRequest:
        return
    assert read_secret(secret.text()) == secret
    assert secret.with_login("u", "p").place == secret.place
