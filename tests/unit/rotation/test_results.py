"""The result for a database has the status that needs most attention, and the reasons of all refusals."""

import pytest

from rdsiam.core.changes import Refusal
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


def test_reasons_and_remedies_name_their_users_and_the_code_is_the_first_one():
    users = (
        UserSchedule("a", None, "unchanged"),
        UserSchedule("b", None, "refused", refusal=Refusal("no secret", "name it", "secret-not-named")),
        UserSchedule("c", None, "refused", refusal=Refusal("no login", "correct it", "login-failed")),
    )
    answer = DatabaseSchedules(ARN, users).to_json()
    assert (answer["reason"], answer["code"]) == ("b: no secret; c: no login", "secret-not-named")
    assert answer["remedy"] == "b: name it; c: correct it"
    assert [(user["code"], user["reason"], user["remedy"]) for user in answer["secrets"]] == [
        ("", "", ""),
        ("secret-not-named", "no secret", "name it"),
        ("login-failed", "no login", "correct it"),
    ]


def test_the_remedy_of_a_single_refusal_can_be_copied():
    refused = UserSchedule(
        "b", None, "refused", refusal=Refusal("no secret", "aws secretsmanager …", "secret-not-named")
    )
    answer = DatabaseSchedules(ARN, (UserSchedule("a", None, "written"), refused)).to_json()
    assert (answer["reason"], answer["remedy"]) == ("b: no secret", "aws secretsmanager …")


def test_a_refusal_before_all_users_is_that_of_the_database():
    refusal = Refusal("access.yaml has no `rotate` for etl", "add etl to it", "rotation-not-declared")
    answer = DatabaseSchedules(ARN, refused=refusal).to_json()
    assert (answer["status"], answer["code"]) == ("refused", "rotation-not-declared")
    assert (answer["reason"], answer["remedy"]) == (refusal.problem, refusal.remedy)


def test_commands_name_database_and_user_quoted_for_a_shell():
    assert commands.set_up("orders", "etl", "--confirm") == "rdsiam rotate set-up orders etl --confirm"
    assert commands.unstick("orders", "my user") == "rdsiam rotate unstick orders 'my user'"
    assert commands.now("orders", "etl") == "rdsiam rotate now orders etl"


def test_a_user_whose_name_begins_with_a_dash_is_no_option_of_the_command():
    assert commands.set_up("orders", "-v", "--confirm") == "rdsiam rotate set-up --confirm orders -- -v"
    assert commands.now("orders", "-v") == "rdsiam rotate now orders -- -v"
