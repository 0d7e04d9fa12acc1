"""Batches of databases: as many steps as needed, pauses between invocations, and another attempt on what may pass."""

from dataclasses import replace
from typing import Any

import pytest

from rdsiam.core.changes import Change, Unreached
from rdsiam.onboarding.convergence import Convergence
from rdsiam.onboarding.privileges import Batch, Batches
from rdsiam.state.escalations import Escalation, Examined
from rdsiam.state.record import Applied
from rdsiam.state.schemas import ObservedSchemas, OpenedSchemas, PublicSchema

USERS = Convergence(applied=Applied("v1", "fingerprint", 1, ("ann",)), databases=3)
GRANT = Change("grant", "ann", "GRANT …")


class Context:
    """A durable context that runs steps at once."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(self, work: Any, name: str, config: Any) -> Any:  # noqa: ARG002
        self.done.append(name)
        return work(None)

    def wait(self, duration: Any, name: str) -> None:
        self.done.append(f"{name}: {duration.to_seconds()} s")


class Privileges:
    """Batches that are given; what they were asked for is noted."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = list(batches)
        self.asked: list[tuple[Any, ...]] = []

    def converge(self, *arguments: Any) -> Batch:
        self.asked.append(arguments)
        return self._batches.pop(0)


def run(privileges: Privileges, users: Convergence = USERS, plan: bool = False) -> tuple[Context, Batches]:
    context = Context()
    batches = Batches(context, None, privileges, plan)  # type: ignore[arg-type]
    batches.run(users)
    return context, batches


def test_one_batch_follows_the_other_from_where_it_ended():
    first = Batch((GRANT,), position="m", seconds=1)
    privileges = Privileges(first, Batch((replace(GRANT, target="bob"),)))
    context, batches = run(privileges)
    assert privileges.asked == [("fingerprint", True, None, None), ("fingerprint", True, "m", None)]
    assert context.done == ["make privileges 1", "make privileges 2"]
    assert [change.target for change in batches.changes] == ["ann", "bob"]


def test_after_long_batches_the_run_goes_on_in_a_new_invocation():
    context, _ = run(Privileges(*[Batch(position=str(number), seconds=20) for number in range(1, 4)], Batch()))
    waits = [name for name in context.done if name.startswith("pause")]
    assert waits == ["pause after batch 2: 1 s"]


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_may_pass_is_tried_again_alone(attempts):
    busy = Unreached("database b", "all connections are taken", "rdsiam tries again")
    closed = Unreached("database c", "closed", "open it", retry=False)
    busy_batch = Batch(missing=(busy, closed), retry=("b",))
    privileges = Privileges(busy_batch, *[replace(busy_batch, missing=(busy,))] * (attempts - 1), Batch())
    _, batches = run(privileges)
    assert [asked[3] for asked in privileges.asked] == [None, *[["b"]] * attempts]
    assert batches.missing == (closed,)


def test_what_does_not_pass_is_named_once():
    busy = Unreached("database b", "all connections are taken", "rdsiam tries again")
    privileges = Privileges(*[Batch(missing=(busy,), retry=("b",))] * 4)
    context, batches = run(privileges)
    assert batches.missing == (busy,)
    assert [name for name in context.done if name.startswith("wait")] == [
        "wait for databases 1: 5 s", "wait for databases 2: 20 s", "wait for databases 3: 60 s"
    ]  # fmt: skip


def test_a_plan_waits_for_nothing_and_changes_nothing():
    busy = Unreached("database b", "all connections are taken", "rdsiam tries again")
    privileges = Privileges(Batch(missing=(busy,), retry=("b",)))
    context, batches = run(privileges, plan=True)
    assert privileges.asked == [("fingerprint", False, None, None)]
    assert (context.done, batches.missing) == (["compare privileges 1"], (busy,))


@pytest.mark.parametrize("users", [Convergence(), replace(USERS, databases=0)], ids=["refused", "no databases"])
def test_without_users_or_databases_there_is_no_batch(users):
    context, _ = run(Privileges(), users)
    assert context.done == []


def examined(*databases: str) -> Examined:
    return Examined(
        databases,
        tuple(Escalation(name, "boss", "ann", "tables", ("TRIGGER",), (), 1, ("ann",)) for name in databases),
        ObservedSchemas(
            tuple(OpenedSchemas(name, ("public",), 1) for name in databases),
            tuple(PublicSchema(name, "public", "boss") for name in databases),
        ),
    )


def test_what_batches_find_adds_up_and_what_is_gone_is_forgotten():
    assert Examined.merged(None, [examined("b"), examined("a")], ["a", "b"]) == examined("a", "b")
    known = Examined.merged(examined("a", "b", "gone"), [examined("c")], ["a", "b", "c"])
    assert known == examined("a", "b", "c")
    clean = Examined(("b",), ())
    merged = Examined.merged(known, [clean], ["a", "b", "c"])
    assert merged.databases == ("a", "b", "c")
    assert {one.database for one in merged.escalations} == {"a", "c"}
