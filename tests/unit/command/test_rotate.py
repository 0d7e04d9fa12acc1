"""`rdsiam rotate` acts on recorded secrets, whatever others say that they are."""

from typing import Any

import pytest
from click.testing import CliRunner

from rdsiam.command import rotate as command
from rdsiam.command.errors import ExitCode, NotFound
from rdsiam.command.output import Output

ORDERS = "arn:aws:rds:eu-central-1:123456789012:db:orders"
OWN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:orders/etl-AbCdEf"
PLANTED = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:tenant-b/etl-AbCdEf"


def listed(secret: str, **fields: Any) -> dict[str, Any]:
    names = ("schedule", "window", "last_rotated", "next_rotation", "pending_since")
    return (
        dict.fromkeys(names)
        | {"secret": secret, "name": secret.split(":")[-1], "user": "etl", "identifier": "orders", "database": ORDERS}
        | {"available": True, "former_stays": False, "state": "ok", "problem": "", "remedy": "", "line_to_add": ""}
        | fields
    )


class Function:
    """SecretsFunction, which lists these secrets."""

    def __init__(self, *secrets: dict[str, Any]) -> None:
        self.secrets = secrets
        self.asked: list[dict[str, Any]] = []
        self.rotated: list[str] = []

    def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(payload)
        if "list" in payload:
            return {"secrets": list(self.secrets), "skipped": 0}
        if "sessions" in payload:
            return {"sessions": [], "unseen": ""}
        return {"status": "unchanged", "version": None}

    def rotate(self, secret: str, *_: Any) -> None:
        self.rotated.append(secret)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(function: Function, *words: str) -> int:
        monkeypatch.setattr(command, "SecretsFunction", lambda *_: function)
        monkeypatch.setattr(command, "database_arn", lambda *_: ORDERS)
        return CliRunner().invoke(command.rotate, words).exit_code

    return run


def test_an_unrecorded_secret_does_not_prevent_rotating_the_recorded_secret(run):
    planted = listed(PLANTED, problem="not recorded", line_to_add="- {match: …}")
    function = Function(planted, listed(OWN))
    run(function, "now", "orders", "etl")
    assert function.rotated == [OWN]
    run(function, "unstick", "orders", "etl")
    assert {"unstick": OWN, "plan": False} in function.asked


def test_rotate_all_ends_with_exit_code_7_if_a_recorded_secret_is_not_rotated(run):
    missing = listed(PLANTED, problem="it is recorded for etl, but is gone, can't be read, or holds no login")
    function = Function(missing, listed(OWN))
    assert run(function, "all", "--reason", "a leak") == 7
    assert function.rotated == [OWN]
    assert run(Function(listed(OWN)), "all", "--reason", "a leak") == 0


def test_the_status_of_a_refused_rotation_has_its_remedy_on_a_line_of_its_own(capsys):
    problem = "it is recorded for another database of that name"
    secret = listed(OWN, problem=problem, remedy="wait for the next reconcile")
    assert command._show_status([secret], Output("table", quiet=False)) == ExitCode.DIFFERENT
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"orders/etl-AbCdEf is refused: {problem}", "  → wait for the next reconcile"]


@pytest.mark.parametrize(("user", "remedy"), [("elt", "did you mean etl?"), ("other", "for the reason: rdsiam rotate")])
def test_a_user_without_a_rotated_secret_is_answered_with_the_user_that_was_meant(user, remedy):
    with pytest.raises(NotFound) as error:
        command._secrets(Function(listed(OWN)), ORDERS, "orders", user)  # type: ignore[arg-type]
    assert error.value.remedy.startswith(remedy)
