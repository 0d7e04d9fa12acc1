"""Runs last: every permission of the template was used by a test, whichever worker it ran on."""

import json
import re
from pathlib import Path

import pytest

from localcloud.aws.expand import read
from localcloud.aws.statements import statements

TEMPLATE = Path(__file__).parents[3] / "template.yaml"
#: The suite uses everything only as a whole.
NEEDED = {"test_api", "test_attacks", "test_audit", "test_onboarding", "test_tokens", "test_killed", "test_rotation"}
NEEDED |= {"test_schedules", "test_command_rotate", "test_migration", "test_command_migrate", "test_waiting_versions"}
#: What can't decide anything here, by why.
NEVER = {
    "OnlyOverTls",  # localcloud's endpoint counts as TLS, so nothing is refused for lack of it
    "WriteLog",  # localcloud keeps what functions write by itself
    "ReadOwnExecutions",  # no execution of the tests is longer than what an invocation holds
    "SeeNetworkInterfaces",  # localcloud's functions are in no VPC
    "ChangeNetworkInterfaces",
    "NeverFromCode",
    "UseKey",  # localcloud's queues, logs and environments are not encrypted, so only DynamoDB asks for the key
    "RootHasTheKey",  # localcloud has no root user, and CloudFormation makes things unjudged; test_stores judges both
    "CloudFormationHasTheKey",
    "LogsAreWritten",
    "AlarmsAndDeadLettersAreSent",
    "UndeliveredEvents",  # localcloud has no dead letters and no alarms
    "KeepDeadLetters",
    "AlarmsOfThisAccount",
    "NoOtherAccountInvokesRotation",  # localcloud has one account, whose Secrets Manager names secrets only;
    "NothingButSecretsInvokesRotation",  # test_invokers judges both
    "KeepLargeResults",  # only OnboardFunction has results that are so large; test_stores judges the others
    "ReadLargeResults",
    "ReadNamedAdministratorsSecrets",  # the stack of the tests names none; test_rotation attaches it by hand
}


@pytest.fixture(scope="module")
def used(cloud, together, request) -> set[tuple[str, str, str]]:
    """Logical id of the role, Sid and action of all that decided anything in the clouds of all workers.

    Resource policies are under the id "".
    """
    modules = {item.module.__name__.rpartition(".")[2] for item in request.session.items}
    if not modules >= NEEDED:
        pytest.skip("needs the whole suite")
    together.wait_for_the_others(1800)
    here = (cloud.directory / "statements.jsonl").read_text()
    found = set()
    for line in [line for text in (here, *together.get("statements")) for line in text.splitlines()]:
        entry = json.loads(line)
        kind, _, name = entry["statement"].partition(":")
        role = re.search(r":role/rdsiam-(\w+)-", entry["principal"])
        if kind == "identity" and role:
            found.add((role[1], name.rpartition("#")[2], entry["action"]))
        elif kind == "resource":
            found.add(("", name.rpartition("#")[2], entry["action"]))
    return found


def test_everything_that_a_role_may_do_was_done(used):
    allowed = {(s.role, s.sid, action) for s in statements(TEMPLATE) if s.effect == "Allow" for action in s.actions}
    assert sorted(one for one in allowed - used if one[1] not in NEVER) == []


def test_everything_that_is_denied_was_tried(used):
    tried = {(role, sid) for role, sid, _ in used}
    # The shards of ConnectRole are its copies, as a unit test shows.
    denied = {
        (re.sub(r"^ConnectRole\d+$", "ConnectRole", s.role), s.sid)
        for s in statements(TEMPLATE)
        if s.effect == "Deny" and s.sid not in NEVER
    }
    assert denied <= tried


def test_every_statement_of_a_resource_policy_decided_something(used):
    own = {statement.sid for statement in statements(TEMPLATE)}
    others = set(re.findall(r'"Sid": "(\w+)"', json.dumps(read(TEMPLATE)))) - own - NEVER
    assert others
    assert others - {sid for role, sid, _ in used if not role} == set()
