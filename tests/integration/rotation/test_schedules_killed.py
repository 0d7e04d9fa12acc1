"""Schedules on real servers and moto's Secrets Manager, each run a fresh process that may be killed at any point."""

import hashlib
import json
import re
import time
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.secretsmanager.models import secretsmanager_backends

from rdsiam.aws.secrets.schedules import INITIAL
from rdsiam.engines.logins import Password
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import PasswordRejected
from rdsiam.errors import Refused, RotationFailed
from rdsiam.events.rotate import RotationRequest, Step
from rdsiam.rotation.operations import RotationOperations, UnstickResult
from rdsiam.rotation.results import ScheduleOptions
from rdsiam.rotation.schedules import Schedules
from rdsiam.rotation.steps import Rotation
from rdsiam.state.record import SecretRecord
from tests.integration.place import MASTER, MASTER_PASSWORD
from tests.integration.rotation.rotating import (
    ACCOUNT,
    REGION,
    Fault,
    create_user,
    set_password,
)
from tests.integration.rotation.schedule_problems import (
    foreign,
    going,
    gone,
    made_alternating,
    not_named,
    of_another_user,
    squatting,
    untagged,
    with_another_password,
)
from tests.integration.rotation.schedule_world import FUNCTION, World, wait_for_test_of_rotation
from tests.kinds import MYSQL_EXHAUSTIVE, OLDER_EXHAUSTIVE


@pytest.fixture(scope="module", params=["postgres", OLDER_EXHAUSTIVE, "mariadb", MYSQL_EXHAUSTIVE])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture
def world(place, secrets_manager):
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    key: Any = [{"AttributeName": "database", "KeyType": "HASH"}]
    kind: Any = [{"AttributeName": "database", "AttributeType": "S"}]
    dynamodb.create_table(
        TableName="inventory", KeySchema=key, AttributeDefinitions=kind, BillingMode="PAY_PER_REQUEST"
    )
    world = World(place, secrets_manager, dynamodb)
    yield world
    world.clear()
    dynamodb.delete_table(TableName="inventory")


@pytest.mark.exhaustive_on("mariadb", "before")
@pytest.mark.parametrize("kind", ["die-before", "die-after"])
def test_a_new_secret_survives_being_killed_anywhere(world, kind):
    point, struck = 0, True
    while struck:
        user = f"made_{kind[4]}_{point}"
        create_user(world.place, user, "the-first-password")
        world.declare(user)
        fault = Fault(point, kind)
        ended = world.apply(fault, confirmed=True)
        struck = fault.struck
        assert (ended is None) == struck
        found = world.secrets(user)
        if not world.logs_in(user, "the-first-password"):
            # No password is in the database alone: who looks into Secrets Manager finds it.
            (one,) = found
            assert world.logs_in(user, world.value(one["ARN"]).password)
        # It was confirmed once: whoever comes next goes on, where the secret is there, without being told again.
        last = world.apply(confirmed=not found)
        assert last is not None
        assert last["status"] in {"written", "unchanged"}, last
        (one,) = world.secrets(user)
        assert one["RotationEnabled"]
        assert one["RotationLambdaARN"] == FUNCTION
        assert INITIAL not in {tag["Key"] for tag in one["Tags"]}
        assert world.record(user) == SecretRecord(world.place.database.resource_id, one["ARN"], "single")
        secret = world.value(one["ARN"])
        assert world.logs_in(user, secret.password)
        assert not world.logs_in(user, "the-first-password")
        again = world.apply()
        assert again is not None
        assert (again["status"], again["changes"]) == ("unchanged", [])
        if world.place.database.engine != "mysql":  # which gets the password itself, and writes it to no file
            assert not [text for text in world.statements if secret.password in text]
        world.clear()
        point += 1
    assert point > 10


@pytest.mark.exhaustive_on("mariadb", "before", "throttled")
@pytest.mark.parametrize("kind", ["die-before", "die-after", "lost", "throttled"])
def test_adoption_and_cancelling_survive_being_killed_anywhere(world, kind):
    point, struck = 0, True
    while struck:
        user = f"kept_{kind.replace('-', '_')}_{point}"
        create_user(world.place, user, "the-password-in-use")
        arn = world.put(user, "the-password-in-use", rdsiam__managed="true")
        world.declare(user, secret=arn)
        fault = Fault(point, kind)
        world.apply(fault)
        struck = fault.struck
        wait_for_test_of_rotation(world, arn)
        assert world.apply()["status"] in {"written", "unchanged"}
        assert world.client.describe_secret(SecretId=arn)["RotationEnabled"]
        world.declare()
        leaving = Fault(point, kind)
        world.apply(leaving)
        wait_for_test_of_rotation(world, arn)
        assert world.apply()["status"] in {"written", "unchanged"}
        assert not world.client.describe_secret(SecretId=arn)["RotationEnabled"]
        assert world.value(arn).password == "the-password-in-use"
        assert world.logs_in(user, "the-password-in-use")
        world.clear()
        point += 1
    assert point > 4


def test_a_password_that_the_policy_rejects_is_replaced_in_the_secret_first(world):
    create_user(world.place, "picky", "the-first-password")
    world.declare("picky")
    services = world.services(Fault())
    engine = services.engines[world.place.database.family]
    tried: list[str] = []

    class Picky:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        def set_other_password(self, session: Any, base: str, user: str, password: str) -> None:
            tried.append(password)
            (one,) = world.secrets("picky")
            assert world.value(one["ARN"]).password == password, "it is in Secrets Manager before the database gets it"
            if len(tried) < 3:
                raise PasswordRejected("too weak")
            engine.set_other_password(session, base, user, password)

    picky = replace(services, engines={world.place.database.family: Picky()})
    answer = Schedules(picky).apply(world.place.database.arn, ScheduleOptions(confirmed=True)).to_json()
    assert answer["status"] == "written"
    assert len(set(tried)) == 3
    assert world.logs_in("picky", tried[-1])


def operations(world: World, pause: Any = None) -> RotationOperations:
    return RotationOperations(world.services(Fault()), pause or (lambda _: None))


def begin(world: World, user: str, password: str | None) -> tuple[str, str]:
    """Have a rotation begun and left: AWSPENDING stays, with that password or with no value."""
    create_user(world.place, user, "current-password")
    arn = world.put(user, "current-password", rdsiam__managed="true")
    world.declare(user, secret=arn)
    world.apply()
    wait_for_test_of_rotation(world, arn)
    held = secretsmanager_backends[ACCOUNT][REGION].secrets[arn]
    version = "0" * 32
    text = None if password is None else world.value(arn).with_login(user, password).text()
    held.versions[version] = {"createdate": time.time(), "version_id": version, "version_stages": ["AWSPENDING"]} | (
        {} if text is None else {"secret_string": text}
    )
    return arn, version


@pytest.mark.parametrize("password", ["never-set-anywhere", None], ids=["with a value", "without one"])
def test_a_password_that_the_database_does_not_accept_is_unstuck(world, password):
    arn, version = begin(world, f"stuck_{len(password or '')}", password)
    planned = operations(world).unstick(arn, plan=True)
    assert planned == UnstickResult(arn, "planned", version, True)
    assert "AWSPENDING" in str(world.client.describe_secret(SecretId=arn)["VersionIdsToStages"])
    assert operations(world).unstick(arn, plan=False).status == "written"
    assert "AWSPENDING" not in str(world.client.describe_secret(SecretId=arn)["VersionIdsToStages"])
    assert operations(world).unstick(arn, plan=False).status == "unchanged"


def test_a_password_that_the_database_accepts_is_not_unstuck(world):
    arn, version = begin(world, "accepted", "new-password")
    with world.place.as_master() as master:
        master.run(set_password(world.place, "accepted", "new-password"))
    with pytest.raises(Refused, match="accepts the password of AWSPENDING"):
        operations(world).unstick(arn, plan=False)
    assert world.client.describe_secret(SecretId=arn)["VersionIdsToStages"][version] == ["AWSPENDING"]


def test_if_a_step_was_at_work_the_label_is_put_back(world):
    arn, version = begin(world, "racing", "new-password")

    def set_meanwhile(_: float) -> None:
        with world.place.as_master() as master:
            master.run(set_password(world.place, "racing", "new-password"))

    with pytest.raises(Refused, match="a rotation was at work"):
        operations(world, set_meanwhile).unstick(arn, plan=False)
    assert world.client.describe_secret(SecretId=arn)["VersionIdsToStages"][version] == ["AWSPENDING"]


def test_sessions_are_seen_as_far_as_the_server_shows_them(world):
    create_user(world.place, "busy", "the-password")
    arn = world.put("busy", "the-password", rdsiam__managed="true")
    world.declare("busy", secret=arn)
    world.apply()
    with world.place.login(Password("busy", "the-password", "scram-sha-256,md5")):
        former = operations(world).sessions(arn)
    (session,) = former.sessions
    assert session.user == "busy"
    if world.place.database.family == "postgres":
        # The front of localcloud's server comes by its socket, which has no address.
        assert (session.application, session.address) == ("rdsiam", None)
        assert str(session.since).endswith("Z")
    else:
        assert (session.application, session.since) == (None, None)
        assert session.address in {"127.0.0.1", "::1", "localhost"}
    assert former.unseen


@pytest.mark.parametrize(
    ("number", "prepare", "reason", "confirmed"),
    [
        (0, untagged, "has not permitted rdsiam to rotate it; aws ", True),
        (1, with_another_password, "does not log in to", True),
        (2, foreign, "another rotates own/refused_2; cancel that", True),
        (3, not_named, "these claim to hold its password, which anyone can write: arn:", True),
        (4, made_alternating, "must be missing (scheme: single)", True),
        (5, lambda *_: None, "none is recorded; if one holds the password that is in use, name it", False),
        (6, going, "refused_6 is scheduled for deletion; aws secretsmanager restore-secret", True),
        (7, of_another_user, "is for another at", True),
        (8, squatting, "refused_8 exists that rdsiam did not create, and it is not taken over", True),
        (9, gone, "is gone, scheduled for deletion, or can't be read", True),
    ],
    ids=[
        "untagged",
        "wrong password",
        "foreign function",
        "not named",
        "other scheme",
        "none",
        "scheduled to go",
        "another user",
        "squatting",
        "recreated",
    ],
)
def test_problems_that_only_the_owner_can_resolve_are_refused_and_change_nothing(
    world, number, prepare, reason, confirmed
):
    user = f"refused_{number}"
    create_user(world.place, user, "the-password")
    chosen = prepare(world, user)
    world.declare(user, **({"secret": chosen} if chosen else {}))
    before = [(one["ARN"], one.get("RotationRules"), one["VersionIdsToStages"]) for one in world.secrets(user)]
    answer = world.apply(confirmed=confirmed)
    assert answer["status"] == "refused"
    assert answer["remedy"]
    assert reason in f"{answer['reason']}; {answer['remedy']}"
    assert answer["changes"] == []
    after = [(one["ARN"], one.get("RotationRules"), one["VersionIdsToStages"]) for one in world.secrets(user)]
    assert before == after
    assert world.logs_in(user, "the-password")


def test_a_missing_user_is_not_created(world):
    world.declare("ghost")
    answer = world.apply(confirmed=True)
    assert answer["status"] == "refused"
    assert "there is no user ghost" in answer["reason"]
    assert world.secrets("ghost") == []


def test_a_plan_changes_nothing_and_lists_the_changes(world):
    create_user(world.place, "planned", "the-password")
    world.declare("planned")
    unconfirmed = world.apply(plan=True)
    assert unconfirmed["status"] == "refused"
    confirmed = world.apply(plan=True, confirmed=True)
    kinds = ["create-secret", "set-password", "schedule-rotation"]
    for answer in (unconfirmed, confirmed):
        assert [change["kind"] for change in answer["changes"]] == kinds
    assert confirmed["status"] == "planned"
    assert world.secrets("planned") == []
    assert world.logs_in("planned", "the-password")
    assert world.record("planned") is None


def test_a_schedule_follows_a_changed_file(world):
    create_user(world.place, "moved", "the-password")
    arn = world.put("moved", "the-password", rdsiam__managed="true")
    for every, day in {"30d": r"\d+ \*", "1d": r"\* \*"}.items():
        world.declare("moved", every=every, secret=arn)
        assert [change["kind"] for change in world.apply()["changes"]] == ["schedule-rotation"]
        wait_for_test_of_rotation(world, arn)
        rules = world.client.describe_secret(SecretId=arn)["RotationRules"]
        assert re.fullmatch(rf"cron\(0 \d+ {day} \? \*\)", rules["ScheduleExpression"])
        assert rules["Duration"] == "1h"
        assert world.apply()["status"] == "unchanged"


def step(world: World, arn: str, version: str, name: Step = "setSecret") -> str:
    """Run a step of a rotation as RotateFunction does."""
    services = world.services(Fault())
    rotation = Rotation(services.store, services.targets, engines=services.engines)
    try:
        return rotation.run(RotationRequest(name, arn, version))
    except RotationFailed as error:
        return str(error)


def test_a_rotation_that_is_no_longer_declared_sets_no_password_whatever_is_pending(world):
    arn, version = begin(world, "held", "never-set-anywhere")
    world.declare()
    for _ in range(2):
        answer = world.apply()
        assert (answer["status"], "has begun and not ended" in answer["reason"]) == ("refused", True)
        assert world.record("held").state == "ending"
    assert world.apply(withdraw=True)["status"] == "refused"
    (listed,) = operations(world).list()
    assert "no longer declares" in listed.problem
    assert step(world, arn, version, "createSecret") == "kept"
    assert "no longer declares this rotation of held" in step(world, arn, version)
    assert not world.logs_in("held", "never-set-anywhere")
    assert world.logs_in("held", "current-password")
    assert world.apply()["status"] == "written"
    assert world.record("held").state == "ended"
    assert not world.client.describe_secret(SecretId=arn)["RotationEnabled"]


def test_a_rotation_that_ends_while_the_database_has_its_password_is_finished(world):
    arn, version = begin(world, "halfway", "new-password")
    with world.place.as_master() as master:
        master.run(set_password(world.place, "halfway", "new-password"))
    world.declare()
    assert world.apply()["status"] == "refused"
    steps: tuple[Step, ...] = ("createSecret", "setSecret", "testSecret", "finishSecret")
    assert [step(world, arn, version, name) for name in steps] == ["kept", "logs in already", "tested", "finished"]
    assert world.value(arn).password == "new-password"
    assert world.apply()["status"] == "written"
    assert world.record("halfway").state == "ended"


def test_an_administrator_that_is_no_longer_declared_is_not_used_whatever_the_owner_leaves_in_the_value(world):
    create_user(world.place, "turns", "the-password")
    arn = world.put("turns", "the-password", rdsiam__managed="true")
    master = {"username": MASTER, "password": MASTER_PASSWORD, "host": world.place.database.host}
    administrator = world.client.create_secret(Name="administrator", SecretString=json.dumps(master))["ARN"]
    value = json.loads(world.value(arn).text()) | {"masterarn": administrator}
    world.client.put_secret_value(SecretId=arn, SecretString=json.dumps(value))
    world.declare("turns", secret=arn, scheme="alternating", administrator=administrator)
    assert world.apply()["status"] == "written"
    wait_for_test_of_rotation(world, arn)
    world.declare("turns", secret=arn)
    assert world.apply(withdraw=True)["status"] == "unchanged"
    assert world.record("turns").state == "ending"
    assert "must be missing (scheme: single)" in world.apply()["reason"]
    version = "0" * 32
    held = secretsmanager_backends[ACCOUNT][REGION].secrets[arn]
    clone = world.value(arn).with_login("turns_clone", "new-password")
    held.versions[version] = {"createdate": time.time(), "version_id": version, "version_stages": ["AWSPENDING"]}
    assert "no longer declares" in step(world, arn, version, "createSecret")
    held.versions[version] |= {"version_stages": ["AWSPENDING"], "secret_string": clone.text()}
    assert "no longer declares" in step(world, arn, version)
    assert not world.logs_in("turns_clone", "new-password")


@pytest.mark.parametrize("action", ["describe_secret", "rotate_secret"])
def test_an_owner_who_denies_rdsiam_a_call_prevents_no_other_users_schedule(world, monkeypatch, action):
    users = [f"{name}_{action[0]}" for name in ("denying", "fine")]
    for user in users:
        create_user(world.place, user, "the-password")
    denying, fine = (world.put(user, "the-password", rdsiam__managed="true") for user in users)
    entries = [
        {"users": [user], "every": "30d", "secret": arn} for user, arn in zip(users, (denying, fine), strict=True)
    ]
    world.rotate = '}, {match: {identifier: "*"}'.join(f", rotate: {json.dumps(one)}" for one in entries)
    allowed = getattr(world.client, action)

    def deny(**arguments: Any) -> Any:
        if arguments["SecretId"] == denying:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "explicit deny"}}, action)
        return allowed(**arguments)

    monkeypatch.setattr(world.client, action, deny)
    answer = world.apply()
    assert [one["status"] for one in answer["secrets"]] == ["refused", "written"], answer
    assert "explicit deny" in answer["reason"]
    monkeypatch.undo()
    assert world.client.describe_secret(SecretId=fine)["RotationEnabled"]


def test_a_recorded_secret_that_is_not_rotated_or_unreadable_is_listed_with_its_problem(world):
    create_user(world.place, "cancelled", "the-password")
    arn = world.put("cancelled", "the-password", rdsiam__managed="true")
    world.declare("cancelled", secret=arn)
    world.apply()
    wait_for_test_of_rotation(world, arn)
    engine = world.place.database.engine
    other = {"mariadb": "mysql", "mysql": "mariadb"}.get(engine, engine)
    value = json.loads(world.value(arn).text()) | {"engine": other}
    world.client.put_secret_value(SecretId=arn, SecretString=json.dumps(value))
    # How often an emergency rotates it, the server says, not the value.
    assert [(one.problem, one.former_stays) for one in operations(world).list()] == [("", engine == "mysql")]
    world.client.cancel_rotate_secret(SecretId=arn)
    (listed,) = operations(world).list()
    assert "RotateFunction does not rotate it" in listed.problem
    world.client.put_secret_value(SecretId=arn, SecretString="{}")
    (listed,) = operations(world).list()
    assert (listed.secret, listed.name, listed.user) == (arn, "own/cancelled", "cancelled")
    assert "is recorded for cancelled, but" in listed.problem


def test_a_rotation_waits_for_no_lock_that_another_user_of_the_server_holds(world):
    for user in ("locked_out", "outsider"):
        create_user(world.place, user, "the-password")
    engine, database = ROTATORS[world.place.database.family], world.place.database
    key = f"rdsiam {hashlib.sha256(b'locked_out').hexdigest()[:40]}"
    lock = (
        "SELECT pg_advisory_lock(hashtext('rdsiam locked_out'))"
        if database.family == "postgres"
        else f"SELECT GET_LOCK('{key}', 1)"
    )
    with world.place.login(Password("outsider", "the-password", "scram-sha-256,md5")) as outsider:
        outsider.run(lock)
        master = engine.connect(database, Password(MASTER, MASTER_PASSWORD), None)
        engine.set_other_password(master, "locked_out", "locked_out", "a-new-password")
        master.close()
    assert world.logs_in("locked_out", "a-new-password")
