"""Names of the secrets that rdsiam creates: allowed by Secrets Manager, and one for each user."""

import re

import pytest

from rdsiam.access.rotation import RotatingUser
from rdsiam.rotation.new_secrets import name_of
from tests.unit.databases import ORDERS

#: The characters that Secrets Manager allows in a name.
ALLOWED = r"[A-Za-z0-9/_+=.@-]{1,512}"
ODD = ["batch user", "o'brien", '50% "off"', "Jürgen", "报表", "a/b", "a_b c", "a b_c", "a\\b", "x" * 79 + "é", "a=b"]


def name(user: str) -> str:
    return name_of(ORDERS, RotatingUser(user, "30d", "00:00/24h", "single"))


@pytest.mark.parametrize("user", ["legacy_etl", "svc@corp", "first.last", "a-b"])
def test_a_plain_name_is_part_of_the_name_as_it_is(user):
    assert name(user) == f"rdsiam/{ORDERS.identifier}/{user}"


@pytest.mark.parametrize("user", ODD)
def test_an_odd_name_gives_an_allowed_one_that_people_recognize(user):
    assert re.fullmatch(ALLOWED, name(user))
    assert name(user).startswith(f"rdsiam/{ORDERS.identifier}/{re.sub('[^A-Za-z0-9_.@-]', '_', user)}=")


def test_no_two_users_share_a_name():
    users = [*ODD, "a_b_c", *(name(user).rpartition("/")[2] for user in ODD)]
    assert len({name(user) for user in users}) == len(users)
