"""A user is not retired before the work that runs in its name is moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from rdsiam.core.changes import MissingPart
from rdsiam.engines.migration import BackgroundWork, LoginState
from rdsiam.engines.statements import Statement
from rdsiam.errors import Refused
from rdsiam.migration.database_user import MigratingUser
from tests.unit.databases import ORDERS

LOCK = Statement("disable-user", "app", "ALTER ROLE app NOLOGIN")


def work(number: int, certain: bool = True) -> BackgroundWork:
    return BackgroundWork(MissingPart(f"job {number}", "it runs as app", f"UPDATE {number}", retry=False), certain)


@pytest.fixture
def user(monkeypatch) -> Any:
    """Return a user with this background work, and the statements that were applied."""

    def make(*found: BackgroundWork) -> tuple[MigratingUser, list[Statement]]:
        applied: list[Statement] = []

        def apply(statements: list[Statement]) -> list[Statement]:
            applied.extend(statements)
            return statements

        migrator = SimpleNamespace(
            login_state=lambda *_: LoginState(True, True, False),
            retire=lambda *_: [LOCK],
            background_work=lambda *_: found,
        )
        opened = SimpleNamespace(
            database=ORDERS, engine=None, migrator=migrator, snapshot=None, rotated=(),
            apply=apply,
        )  # fmt: skip

        @contextmanager
        def open_(_: MigratingUser, apply: bool) -> Iterator[Any]:
            yield opened

        monkeypatch.setattr(MigratingUser, "_open", open_)
        services: Any = None
        return MigratingUser(services, ORDERS.arn, "app", "app_iam", "run"), applied

    return make


def test_a_user_with_jobs_keeps_its_login_and_the_refusal_says_how_they_move(user):
    migrating, applied = user(*(work(number) for number in range(7)))
    with pytest.raises(Refused, match="7 jobs or subscriptions run as app") as refused:
        migrating.retire(lambda _: None)
    assert refused.value.code == "user-in-use"
    assert "move them to app_iam" in refused.value.remedy
    assert "job 4: UPDATE 4" in refused.value.remedy
    assert "job 5" not in refused.value.remedy
    assert applied == []


@pytest.mark.parametrize("found", [(), (work(1, certain=False),)], ids=["none", "unreadable"])
def test_a_user_without_known_jobs_is_retired(user, found):
    migrating, applied = user(*found)
    assert migrating.retire(lambda _: None) == applied == [LOCK]


def test_a_plan_has_the_changes_and_names_the_work(user):
    migrating, applied = user(work(1), work(2, certain=False))
    assert migrating.retire(None) == [LOCK]
    assert [part.what for part in migrating.background_work()] == ["job 1", "job 2"]
    assert applied == []
