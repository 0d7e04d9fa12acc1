"""Rotation's four steps on real servers, one invocation at a time."""

import pytest

from rdsiam.requests import STEPS
from tests.integration.fix_rotation import Rotating


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture(params=[False, True], ids=["single", "alternating"])
def rotating(request, place, make_rotating) -> Rotating:
    made: Rotating = make_rotating(place, request.param)
    return made


def test_the_four_steps_change_the_password(rotating):
    before = rotating.value(rotating.labelled("AWSCURRENT"))
    token = rotating.begin()
    assert [rotating.invoke(step, token) for step in STEPS] == ["created", "set", "tested", "finished"]
    after = rotating.value(rotating.labelled("AWSCURRENT"))
    assert rotating.labelled("AWSCURRENT") == token
    assert rotating.labelled("AWSPENDING") is None
    assert rotating.logs_in(after)
    assert after.password != before.password
    if rotating.alternating:
        assert after.user == before.user + "_clone"
        assert rotating.logs_in(before)
    else:
        assert after.user == before.user
        assert not rotating.logs_in(before)


def test_again_and_again(rotating):
    names = []
    for _ in range(3):
        rotating.converge(attempts=1)
        names.append(rotating.value(rotating.labelled("AWSCURRENT")).user)
        assert rotating.logs_in(rotating.value(rotating.labelled("AWSCURRENT")))
    base = rotating.user
    assert names == ([base + "_clone", base, base + "_clone"] if rotating.alternating else [base] * 3)
