"""Two people, ten databases, an hour by a moved clock: nobody gets more than is declared, and all is on record."""

import hashlib
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.access.callers import Caller
from rdsiam.access.model import parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.store import Versioned
from rdsiam.errors import NotAllowed
from rdsiam.tokens.parser import read_token
from rdsiam.vending.flow import CaUrls, Stores, Vending

ACCOUNT = "123456789012"
BEGIN = datetime(2026, 11, 24, 9, tzinfo=UTC)
#: Taken away by the second version of the file, half way.
CHANGED = BEGIN + timedelta(minutes=30)
UNTIL = BEGIN + timedelta(minutes=45)
PEOPLE = ("ann", "bob")
DATABASES = [f"db-{number}" for number in range(10)]


def entry(databases, user, person, **rule):
    caller = {"role": f"arn:aws:iam::{ACCOUNT}:role/{person}", **rule}
    users = [{"name": user, "privileges": "readonly", "on": ["shop"], "callers": [caller]}]
    return [{"match": {"identifier": database}, "users": users} for database in databases]


ANNS = entry(DATABASES[:6], "reader", "ann")
BOBS = entry(DATABASES[4:], "writer", "bob", until=f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}")
TAKEN = entry(DATABASES[:2], "writer", "ann")
FILES = {
    "v1": parse(json.dumps({"version": 1, "databases": ANNS + BOBS + TAKEN})),
    "v2": parse(json.dumps({"version": 1, "databases": ANNS + BOBS})),
}


def is_declared(person, database, user, at):
    """Tell by hand what the files say."""
    number = DATABASES.index(database)
    if (person, user) == ("ann", "reader"):
        return number < 6
    if (person, user) == ("bob", "writer"):
        return number >= 4 and at < UNTIL
    return (person, user) == ("ann", "writer") and number < 2 and at < CHANGED


class Account:
    """The inventory, the decisions and STS of one account, by its clock."""

    meta = SimpleNamespace(region_name="eu-west-1")

    def __init__(self):
        self.now = BEGIN
        self.decisions = []
        self.assumed = []

    def current(self):
        version = "v1" if self.now < CHANGED else "v2"
        return Versioned(FILES[version], version)

    def get(self, arn):
        name = arn.rpartition(":")[2]
        database = SelectedDatabase(
            arn=arn, identifier=name, engine="postgres", engine_version="18", resource_id=name.upper(),
            status="available", host=f"{name}.example.eu-west-1.rds.amazonaws.com", port=5432, iam_enabled=True,
            master_user="boss",
        )  # fmt: skip
        return SimpleNamespace(database=database, shards={}, revoked={}) if name in DATABASES else None

    def put(self, decision):
        self.decisions.append(decision)

    def assume_role(self, **request):
        self.assumed.append(request)
        number = len(self.assumed)
        return {
            "Credentials": {
                "AccessKeyId": f"ASIA{number}",
                "SecretAccessKey": f"canary-secret-{number}",
                "SessionToken": f"canary-session-{number}",
                "Expiration": self.now + timedelta(seconds=request["DurationSeconds"]),
            }
        }

    def resource_of(self, access_key):
        policy = json.loads(self.assumed[int(access_key.removeprefix("ASIA")) - 1]["Policy"])
        return policy["Statement"][0]["Resource"]


@pytest.mark.parametrize("seed", range(3))
def test_tokens_of_a_simulated_hour_are_all_declared_and_recorded(seed):
    chance = random.Random(seed)  # noqa: S311
    account: Any = Account()
    role = f"arn:aws:iam::{ACCOUNT}:role/connect"
    vending = Vending(
        Stores(account, account, account, account),
        account,
        [role],
        CaUrls("https://ca", "https://ca-of-proxies"),
        now=lambda: account.now,
    )
    outcomes: Counter[str] = Counter()
    for _ in range(1800):
        account.now += timedelta(seconds=2)
        person, database = chance.choice(PEOPLE), chance.choice(DATABASES)
        user = chance.choice(["reader", "writer", "boss", "rdsiam_manager"])
        caller = Caller(f"arn:aws:iam::{ACCOUNT}:role/{person}", ACCOUNT, f"{person}-1")
        try:
            answer = vending.vend(caller, database, user, "", f"request-{account.now}")
        except NotAllowed:
            answer = None
        allowed = is_declared(person, database, user, account.now)
        assert (answer is not None) == allowed, (person, database, user, account.now)
        record = account.decisions[-1]
        asked = (record.caller, record.database.rpartition(":")[2], record.user, record.outcome)
        assert asked == (caller.role, database, user, "allowed" if allowed else "denied")
        assert record.access_version == account.current().version
        outcomes[record.outcome] += 1
        if answer:
            check(account, answer, database, user)
            signature = answer.token.rpartition("X-Amz-Signature=")[2]
            assert record.fingerprint == hashlib.sha256(signature.encode()).hexdigest()
            if person == "bob":
                assert answer.expires_at <= f"{UNTIL:%Y-%m-%dT%H:%M:%SZ}"
    assert len(account.decisions) == 1800
    assert min(outcomes.values()) > 100, outcomes
    assert "canary" not in repr(account.decisions)
    # Fourteen grants, asked for once under each of two versions, and renewed when less than 15 minutes are left.
    assert len(account.assumed) <= 3 * 14


def check(account, answer, database, user):
    token = read_token(answer.token)
    assert (token.host, token.port, token.user) == (f"{database}.example.eu-west-1.rds.amazonaws.com", 5432, user)
    assert answer.issued_at == f"{account.now:%Y-%m-%dT%H:%M:%SZ}"
    assert answer.expires_at <= f"{account.now + timedelta(minutes=15):%Y-%m-%dT%H:%M:%SZ}"
    resource = account.resource_of(token.access_key)
    assert resource == f"arn:aws:rds-db:eu-west-1:{ACCOUNT}:dbuser:{database.upper()}/{user}"
