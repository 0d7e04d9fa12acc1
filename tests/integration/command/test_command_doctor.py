"""`rdsiam doctor` as callers of different rights use it."""

import json

import pytest

from tests.integration.commands import no_secret


def diagnosis(rdsiam, *arguments: str, role: str | None = None) -> dict[str, str]:
    """Return the state of each check."""
    done = rdsiam("doctor", *arguments, "--output", "json", role=role)
    no_secret(done)
    assert "X-Amz" not in done.stdout
    rows = json.loads(done.stdout)
    assert done.returncode == (3 if "FAIL" in {row["state"] for row in rows} else 7), done.stderr
    return {row["check"]: row["state"] for row in rows}


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_the_doctor_of_a_caller_that_may_only_ask_the_api_uses_its_answer(rdsiam, engine):
    states = diagnosis(rdsiam, f"tokens-{engine}", "app", role="vended")
    well = (
        "name", "port", "TLS", "IAM authentication", "identity", "user", "API", "revocation", "login", "resource id",
        "policy decision", "clock", "region",
    )  # fmt: skip
    assert {check for check, state in states.items() if state == "OK"} == set(well)
    assert "FAIL" not in states.values()


def test_the_doctor_says_that_a_reason_is_required_and_takes_one(rdsiam):
    without = diagnosis(rdsiam, "tokens-postgres", "oncall", role="vended")
    assert [check for check, state in without.items() if state == "FAIL"] == ["API"]
    assert (without["name"], without["port"], without["TLS"]) == ("OK",) * 3, "the API's list has the endpoint"
    with_reason = diagnosis(rdsiam, "tokens-postgres", "oncall", "--reason", "TICKET-7", role="vended")
    assert (with_reason["API"], with_reason["login"]) == ("OK", "OK")


def test_the_doctor_tells_a_role_that_signs_its_own_tokens_how(rdsiam):
    done = rdsiam("doctor", "tokens-postgres", "app2", role="signing")
    assert "OK      API                 access.yaml lets your role sign its own tokens: add --local" in done.stdout


def test_the_doctor_of_an_administrator_needs_no_role(rdsiam):
    states = diagnosis(rdsiam, "tokens-postgres", "app2")
    assert "FAIL" not in states.values()
    assert (states["API"], states["login"], states["revocation"]) == ("OK",) * 3


def test_an_iam_user_is_told_that_it_can_not_ask(rdsiam):
    done = rdsiam("token", "tokens-postgres", "-u", "app")
    assert done.returncode == 4
    assert "which is no role: IAM users and the root user can't ask" in done.stderr
