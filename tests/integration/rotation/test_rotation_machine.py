"""Rotation survives everything: any order of steps, repeats, kills, faults, two at once; real servers, both schemes."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rdsiam.aws.secrets.value import Secret
from rdsiam.events.rotate import STEPS
from tests.examples import at_most
from tests.integration.rotation.rotating import Fault, Rotating, create_user
from tests.kinds import MYSQL_FAMILY, POSTGRES

# `make test` runs these on two of PostgreSQL's servers; test_rights.py is about the rights in which the third differs.
pytestmark = pytest.mark.exhaustive_on("vanilla", "postgres14", "mysql")

KINDS = ("die-before", "die-after", "denied", "throttled", "lost", "cut-before", "cut-after")
steps = st.sampled_from(STEPS)
faults = st.builds(Fault, st.integers(0, 12), st.sampled_from(KINDS))
BYSTANDER, ITS_PASSWORD = "bystander", "of the bystander"


class Rotations(RuleBasedStateMachine):
    """One user's secret, and all that may happen to it."""

    make: Any

    @initialize()
    def begin_with_a_user(self):
        self.user: Rotating = type(self).make()
        #: Whether what is in the secret or the database was put back by hand since the last rotation that ended.
        self.restored = False
        #: Values that were current at some time.
        self.once_current: set[str] = set()
        self.user.begin()

    def token(self, data: st.DataObject) -> str:
        """Mostly the pending version's; else one of any rotation that was."""
        pending = self.user.labelled("AWSPENDING")
        return data.draw(st.sampled_from([*([pending] * 4 if pending else []), *self.user.tokens]), label="token")

    @rule()
    def rotate_secret(self):
        self.user.begin()

    @rule(data=st.data(), step=steps)
    def invoke(self, data, step):
        self.user.invoke(step, self.token(data))

    @rule(data=st.data(), step=steps, fault=faults)
    def invoke_and_fail(self, data, step, fault):
        self.user.invoke(step, self.token(data), fault)

    @rule(fault=faults, which=st.integers(0, 3))
    def rotate_and_fail(self, fault, which):
        token = self.user.begin()
        for number, step in enumerate(STEPS):
            if str(self.user.invoke(step, token, fault if number == which else None)).startswith(("failed", "killed")):
                break

    @rule(data=st.data(), step=steps)
    def twice_is_once(self, data, step):
        token = self.token(data)
        if not str(self.user.invoke(step, token)).startswith("failed"):
            before = self.state()
            assert not str(self.user.invoke(step, token)).startswith("failed")
            assert self.state() == before

    @rule(data=st.data(), one=steps, other=steps)
    def two_at_once(self, data, one, other):
        self.user.at_once((one, self.token(data)), (other, self.token(data)))

    @precondition(lambda self: self.user.labelled("AWSPENDING"))
    @rule()
    def give_the_pending_version_up(self):
        """Discard a stuck rotation, as a person does: the new password may be in the database already."""
        pending = self.user.labelled("AWSPENDING")
        if pending is None:
            return
        self.user.versions[pending]["version_stages"].remove("AWSPENDING")
        self.restored = self.restored or not self.user.alternating

    @rule(which=st.sampled_from(["setSecret", "testSecret"]))
    def give_a_rotation_up_halfway(self, which):
        token = self.user.begin()
        for step in STEPS[: STEPS.index(which) + 1]:
            self.user.invoke(step, token)
        self.give_the_pending_version_up()

    @precondition(lambda self: self.user.value(self.user.labelled("AWSPREVIOUS")))
    @rule()
    def restore_the_database(self):
        previous = self.user.value(self.user.labelled("AWSPREVIOUS"))
        assert previous is not None
        self.user.set_password(previous.user, previous.password)
        self.restored = self.restored or not self.user.alternating

    @precondition(lambda self: self.user.value(self.user.labelled("AWSPREVIOUS")))
    @rule()
    def restore_the_secret(self):
        """Move AWSCURRENT back, as a person does."""
        previous, current = self.user.labelled("AWSPREVIOUS"), self.user.labelled("AWSCURRENT")
        self.user.client.update_secret_version_stage(
            SecretId=self.user.arn, VersionStage="AWSCURRENT", MoveToVersionId=previous, RemoveFromVersionId=current
        )
        self.restored = True

    @rule(data=st.data())
    def restore_a_value(self, data):
        """Restore a copy of the secret, as a person does: a value that was current once becomes current again."""
        texts = [each.get("secret_string") for each in self.user.versions.values()]
        known = [text for text in texts if text in self.once_current]
        self.user.client.put_secret_value(SecretId=self.user.arn, SecretString=data.draw(st.sampled_from(known)))
        self.restored = True

    @rule()
    def rotate_to_the_end(self):
        token = self.user.converge()
        assert self.user.labelled("AWSPENDING") is None
        value = self.user.value(token)
        assert value is not None
        assert value.user in {self.user.user, self.user.user + "_clone"}
        self.restored = False

    @invariant()
    def the_current_version_logs_in(self):
        version = self.user.labelled("AWSCURRENT")
        current = self.user.value(version)
        assert version is not None
        assert current is not None
        self.once_current.add(self.user.versions[version]["secret_string"])
        if self.restored:
            assert any(self.user.logs_in(value) for value in self.stored() if value.user == current.user)
        elif self.user.alternating:
            assert self.user.logs_in(current)
        else:
            # PostgreSQL and MariaDB keep one password: between setSecret and finishSecret it is the pending one.
            pending = self.user.value(self.user.labelled("AWSPENDING"))
            assert self.user.logs_in(current) or self.user.logs_in(pending)

    @invariant()
    def no_password_is_in_the_database_only(self):
        """Whatever the database takes, some version of the secret has; else nobody could log in ever again."""
        stored = self.stored()
        for name in {value.user for value in stored if self.user.exists(value.user)}:
            assert any(self.user.logs_in(value) for value in stored if value.user == name)

    def stored(self) -> list[Secret]:
        """Return the values of all versions, once each, the newest first: it mostly is the one that logs in."""
        values = (self.user.value(version) for version in reversed(self.user.versions))
        return list({(value.user, value.password): value for value in values if value}.values())

    def state(self) -> tuple[Any, ...]:
        """Return all that a repeated step must not change."""
        values = {version: self.user.value(version) for version in self.user.versions}
        return self.user.stages(), values, {version: self.user.logs_in(value) for version, value in values.items()}

    def teardown(self):
        self.user.converge()
        assert self.user.logs_in(self.user.value(self.user.labelled("AWSCURRENT")))
        assert self.user.password_works(BYSTANDER, ITS_PASSWORD)


@pytest.fixture(scope="module", params=[*POSTGRES, *MYSQL_FAMILY])
def place(request, make_place):
    made = make_place(request.param)
    create_user(made, BYSTANDER, ITS_PASSWORD)
    return made


@pytest.fixture(params=[False, True], ids=["single", "alternating"])
def make(request, place, make_rotating):
    return lambda: make_rotating(place, request.param)


@pytest.mark.hypothesis
def test_after_any_sequence_the_current_version_logs_in_and_the_next_rotation_ends(make):
    machine = type("Machine", (Rotations,), {"make": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=at_most(8),
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # a failure is 12 steps at most, and shrinking it would take minutes
            print_blob=True,
        ),
    )
