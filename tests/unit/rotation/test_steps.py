"""The flow of a rotation without any server: what is checked, in which order, and what every interleaving leaves."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsiam.access.model import parse
from rdsiam.access.rotation import RotatingUser
from rdsiam.access.selection import select
from rdsiam.aws.secrets.value import MasterSecret, read_secret
from rdsiam.errors import InvalidRequest
from rdsiam.events.rotate import STEPS, rotation_request
from tests.unit.rotation.world import ARN, DATABASE, FIRST, MASTER, Engine, World


@pytest.mark.parametrize("alternating", [False, True])
def test_four_steps_make_one_rotation(alternating):
    world = World(alternating)
    world.store.begin("v1")
    assert [world.run(step) for step in STEPS] == ["created", "set", "tested", "finished"]
    assert world.works(world.current)
    assert world.store.proofs == ["proof-of-caller"]
    assert [world.run(step) for step in STEPS] == ["current already"] * 4


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([*STEPS, "begin"]), st.sampled_from(["v1", "v2", "v3"])), max_size=25),
    st.booleans(),
)
def test_in_any_order_of_steps_the_current_or_the_pending_version_logs_in(alternating, calls, warm):
    world = World(alternating, warm)
    for step, token in calls:
        world.store.begin(token) if step == "begin" else world.run(step, token)
        assert world.works(world.current) or (not alternating and world.works(world.store.labelled(ARN, "AWSPENDING")))
    pending = next((v for v, labels in world.store.stages.items() if "AWSPENDING" in labels), "v4")
    world.store.begin(pending)
    assert [world.run(step, pending) for step in STEPS][-1] == "finished"
    assert world.works(world.current)


def test_no_rotation_begins_while_rotation_is_off_and_one_that_has_set_its_password_ends():
    world = World()
    world.store.rotates = False
    world.store.begin("v1")
    assert "rotation is not enabled" in world.run("createSecret")
    assert "v1" not in world.store.values
    world.store.rotates = True
    assert [world.run(step) for step in STEPS[:2]] == ["created", "set"]
    world.store.rotates = False
    assert [world.run(step) for step in STEPS[2:]] == ["tested", "finished"]
    assert world.works(world.current)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda w: setattr(w.store, "owner", "rds"), "rds manages this secret"),
        (lambda w: w.store.stages.pop("v1"), "not a version of this secret"),
        (lambda w: w.store.stages.update(v1={"AWSPREVIOUS"}), "is not AWSPENDING"),
    ],
    ids=["managed", "unknown version", "not pending"],
)
def test_a_version_that_may_not_be_rotated_is_refused_before_any_login(step, spoil, cause):
    world = World()
    world.store.begin("v1")
    spoil(world)
    if step in {"setSecret", "testSecret"}:
        world.store.values.pop("v1", None)  # they look at the labels only if the version has no value
    assert cause in world.run(step)
    assert world.engine.passwords == Engine().passwords
    assert world.engine.logins == []


@pytest.mark.parametrize(
    "changed",
    [{"user": "boss"}, {"host": "two.example"}, {"engine": "mysql"}, {"port": 1}, {"instance": "two"},
     {"cluster": "two"}, {"master_arn": MASTER}, {"database": "other"}],
    ids=str,
)  # fmt: skip
def test_a_pending_version_for_another_user_or_database_is_refused(changed):
    world = World()
    world.store.begin("v1")
    world.run("createSecret")
    world.store.values["v1"] = replace(world.store.values["v1"], **changed)
    assert "remove its label" in world.run("setSecret")
    assert world.engine.logins == []


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("done", range(4))
@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"arn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-GhIjKl"}, "does not declare that rotation"),
        ({"resource_id": "db-BEFORE"}, "is recorded for another database"),
        ({"state": "initial"}, "not set in the database yet"),
        ({"state": "ended"}, "does not declare that rotation"),
        ({"scheme": "alternating", "administrator": "arn:other"}, "masterarn of the secret's value is"),
        ({"administrator": "arn:other"}, "masterarn of the secret's value is"),
    ],
    ids=["another secret", "a database before", "initial", "ended", "another scheme", "another administrator"],
)
def test_no_step_acts_on_a_secret_that_is_not_recorded_as_it_is(warm, alternating, done, fields, cause):
    world = World(alternating, warm)
    world.store.begin("v1")
    for step in STEPS[:done]:
        world.run(step)
    values, passwords, stages = dict(world.store.values), dict(world.engine.passwords), repr(world.store.stages)
    world.engine.logins.clear()
    world.found.change(**fields)
    answer = world.run(STEPS[done])
    if warm and done > 1:
        return  # the step before saw the record a moment ago
    if "resource_id" in fields and done == 0:
        assert answer == "created"  # no login: the step that sets it asks RDS
        return
    assert cause in answer
    assert (world.store.values, world.engine.passwords, repr(world.store.stages)) == (values, passwords, stages)
    assert world.engine.logins == []


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize(
    "changed",
    [{"username": "payments"}, {"username": "payments_clone"}, {"masterarn": ARN.replace("app", "other")},
     {"dbInstanceIdentifier": "two"}, {"host": "two.example"}],
    ids=str,
)  # fmt: skip
def test_the_owner_of_a_recorded_secret_gets_no_other_login(alternating, version, changed):
    world = World(alternating)
    world.engine.passwords["payments"] = "payments-word"
    world.store.begin("v1")
    if version == "v1":
        world.run("createSecret")
    text = json.loads(world.store.values[version].text()) | changed
    world.store.values[version] = read_secret(json.dumps(text))
    passwords = dict(world.engine.passwords)
    answers = [world.run(step) for step in STEPS]
    # createSecret does not ask RDS: it may store what no later step uses.
    stored = version == "v1" or "host" in changed
    assert all(answer.startswith("failed") for answer in answers[stored:]), answers
    assert world.engine.passwords == passwords
    assert world.engine.logins == []
    assert world.store.stages["v0"] == {"AWSCURRENT"}


def test_a_refusal_shows_the_line_that_declares_the_rotation():
    world = World(alternating=True)
    world.found.records.clear()
    world.store.begin("v1")
    answer = world.run("createSecret")
    line = answer.partition("add to `databases`: ")[2]
    file = parse(f"version: 1\ndatabases:\n  {line}\n")
    assert file.rotating(select(DATABASE, None)) == (
        RotatingUser("app", "30d", "00:00/24h", "alternating", secret=ARN, administrator=MASTER),
    )


def test_an_older_version_of_another_user_is_not_tried():
    world = World()
    world.engine.passwords["app"] = "lost"
    world.store.values["old"] = replace(FIRST, user="boss", password="boss-word")
    world.store.stages["old"] = {"AWSPREVIOUS"}
    world.store.begin("v1")
    world.run("createSecret")
    assert "with none of" in world.run("setSecret")
    assert {user for user, _ in world.engine.logins} == {"app"}


def test_a_password_that_only_an_unlabelled_version_still_has_is_found():
    world = World()
    world.store.begin("v1")
    world.run("createSecret")
    world.run("setSecret")
    world.store.discard_pending(ARN, "v1")
    world.store.begin("v2")
    assert [world.run(step, "v2") for step in STEPS][-1] == "finished"


def test_a_rejected_password_is_given_up_and_the_next_rotation_makes_another():
    world = World()
    world.engine.rejects = 1
    world.store.begin("v1")
    world.run("createSecret")
    assert "does not take the new password" in world.run("setSecret")
    assert not world.store.stages["v1"]
    world.store.begin("v2")
    assert [world.run(step, "v2") for step in STEPS][-1] == "finished"
    assert world.works(world.current)


def test_no_other_password_is_tried_if_the_network_is_down():
    world = World()
    world.store.begin("v1")
    world.run("createSecret")
    world.engine.down = True
    assert "failed at port" in world.run("setSecret")
    assert len(world.engine.logins) == 1


def test_a_rotation_of_an_iam_user_is_refused_with_the_advice_to_retire_its_secret():
    world = World()
    world.store.begin("v1")
    world.run("createSecret")
    world.engine.iam = True
    assert "IAM user and logs in by token" in world.run("setSecret")


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda w: setattr(w.found, "proxies", ["front"]), "the proxy front logs in with this secret"),
        (lambda w: setattr(w.store, "master_secret", MasterSecret("boss", "boss-word", "two.example")), "host differs"),
        (lambda w: setattr(w.store, "master_secret", MasterSecret("boss", "boss-word", None)), "host differs"),
        (lambda w: setattr(w.store, "master_secret", MasterSecret("app", "first-word", "one.example")), "user itself"),
        (lambda w: w.engine.passwords.update(boss="other"), "administrator of masterarn, boss, can't log in"),
    ],
    ids=["proxy", "another host", "no host", "the user itself", "wrong password"],
)
def test_alternating_users_are_refused_if_they_would_do_harm(spoil, cause):
    world = World(alternating=True)
    world.store.begin("v1")
    world.run("createSecret")
    spoil(world)
    assert cause in world.run("setSecret")
    assert world.works(world.current)


def test_only_the_same_process_relies_on_the_login_of_the_step_before():
    for warm, seconds, logins in [(True, 1, 2), (False, 1, 3), (True, 1000, 3)]:
        world = World(warm=warm)
        world.store.begin("v1")
        for step in STEPS:
            world.run(step)
            world.now += seconds
        assert len(world.engine.logins) == logins


@pytest.mark.parametrize(("warm", "seconds", "asked"), [(True, 1, 1), (False, 1, 3), (True, 1000, 3)])
def test_only_the_same_process_relies_on_the_database_of_the_step_before(warm, seconds, asked):
    world = World(warm=warm)
    world.store.begin("v1")
    for step in STEPS:
        world.run(step)
        world.now += seconds
    assert world.found.asked == asked


def test_after_a_failed_login_the_next_attempt_looks_the_database_up_again():
    world = World(warm=True)
    world.store.begin("v1")
    assert [world.run(step) for step in STEPS[:2]] == ["created", "set"]
    world.engine.down = True
    assert "failed at port" in world.run("testSecret")
    world.engine.down = False
    assert world.run("testSecret") == "tested"
    assert world.found.asked == 2


@pytest.mark.parametrize("already_set", [False, True])
def test_after_awscurrent_was_put_back_its_user_does_not_get_the_password_of_a_former_turn(already_set):
    world = World(alternating=True)
    world.engine.passwords["app_clone"] = "second-word"
    clone = world.store.values["v0"].with_login("app_clone", "second-word")
    world.store.values["v00"], world.store.stages["v00"] = clone, {"AWSCURRENT"}
    world.store.stages["v0"] = {"AWSPREVIOUS"}
    world.store.begin("v1")
    for step in STEPS[: 1 + already_set]:
        world.run(step)
    world.store.stages |= {"v0": {"AWSCURRENT"}, "v00": {"AWSPREVIOUS"}}
    if already_set:
        assert [world.run(step) for step in STEPS[1:]] == ["logs in already", "tested", "finished"]
    else:
        assert "AWSPENDING was given up" in world.run("setSecret")
        assert world.works(world.current)
        world.store.begin("v2")
        assert [world.run(step, "v2") for step in STEPS][-1] == "finished"
    assert world.works(world.current)


def test_an_unexpected_error_is_reported_without_its_message():
    world = World()
    world.store.begin("v1")
    world.store.describe = lambda _: (_ for _ in ()).throw(KeyError("a-word"))  # type: ignore[method-assign, assignment]
    assert "unexpected KeyError at test_steps.py" in world.run("createSecret")


GOOD = {"Step": "setSecret", "SecretId": ARN, "ClientRequestToken": "a" * 36, "RotationToken": "proof-of-caller"}


def test_secrets_managers_event_is_read_and_its_token_stays_hidden():
    request = rotation_request(GOOD)
    assert (request.step, request.secret, request.token) == ("setSecret", ARN, "a" * 36)
    assert "proof" not in repr(request)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *itertools.product(["Step", "SecretId", "ClientRequestToken"], [None, 7, [], "", "canary"]),
        ("RotationToken", 7),
        ("RotationToken", ""),
    ],
    ids=str,
)
def test_other_events_are_refused_by_the_name_of_the_field(key, value):
    with pytest.raises(InvalidRequest) as refused:
        rotation_request(GOOD | {key: value})
    assert refused.value.field == key
    assert "canary" not in str(refused.value)
