"""The result for a database has the status that needs most attention, and the reasons of all refusals."""

import pytest

from rdsiam.rotation import commands
from rdsiam.rotation.results import DatabaseSchedules, UserSchedule

ARN = "arn:aws:rds:eu-west-1:123456789012:db:orders"


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], "unchanged"),
        (["unchanged", "written"], "written"),
        (["planned", "unchanged"], "planned"),
        (["written", "refused", "planned"], "refused"),
    ],
)
def test_the_status_of_a_database_is_the_one_that_needs_most_attention(statuses, status):
    users = tuple(UserSchedule(f"user{number}", None, each) for number, each in enumerate(statuses))
    assert DatabaseSchedules(ARN, users).to_json()["status"] == status


def test_reasons_name_their_users_and_the_code_is_the_first_one():
    users = (
        UserSchedule("a", None, "unchanged"),
        UserSchedule("b", None, "refused", "no secret", code="secret-not-named"),
        UserSchedule("c", None, "refused", "no login", code="login-failed"),
    )
    answer = DatabaseSchedules(ARN, users).to_json()
    assert (answer["reason"], answer["code"]) == ("b: no secret; c: no login", "secret-not-named")


def test_commands_name_database_and_user_quoted_for_a_shell():
    assert commands.set_up("orders", "etl", "--confirm") == "rdsiam rotate set-up orders etl --confirm"
    assert commands.unstick("orders", "my user") == "rdsiam rotate unstick orders 'my user'"
    assert commands.now("orders", "etl") == "rdsiam rotate now orders etl"
