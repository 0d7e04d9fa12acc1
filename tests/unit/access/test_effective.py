"""Effective users, and that a reconcile notices when they change."""

from datetime import UTC, datetime, timedelta

from rdsiam.access.effective import effective_users
from rdsiam.access.model import parse
from rdsiam.state import fingerprint
from tests.unit.vending.test_flow import DATABASE

PAST, FUTURE = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (-1, 1))
ROLE = "arn:aws:iam::123456789012:role/ci"


def declared(*callers):
    rules = ", ".join(f"{{role: '{ROLE}', until: {until}}}" if until else f"{{role: '{ROLE}'}}" for until in callers)
    return parse(f"""
version: 1
databases:
  - match: {{identifier: orders}}
    users:
      - {{name: app, privileges: readonly, on: [shop], roles: ["{ROLE}"], callers: [{rules}]}}
      - {{name: other, privileges: readonly, on: [shop]}}
""").declared(DATABASE)


def print_of(users, revoked=()):
    return fingerprint.of_declared(effective_users(users, revoked))


def test_users_that_nobody_revoked_are_effective():
    users = declared(None, FUTURE)
    assert effective_users(users, {}) == users


def test_a_revoked_user_is_not_effective_and_makes_another_fingerprint():
    users = declared(None)
    assert [user.name for user in effective_users(users, {"app": "why"})] == ["other"]
    assert print_of(users, {"app": "why"}) != print_of(users)
    assert print_of(users, {"somebody": "else"}) == print_of(users)


def test_callers_whose_time_has_passed_are_none_and_the_user_stays():
    users = effective_users(declared(PAST, FUTURE), ())
    assert [len(user.callers) for user in users] == [1, 0]
    assert print_of(declared(PAST, FUTURE)) == print_of(declared(FUTURE))
    assert print_of(declared(PAST)) != print_of(declared(FUTURE))
