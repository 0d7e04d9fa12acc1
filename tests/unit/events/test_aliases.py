"""Each caller has an alias of its own, by which a function accepts what that caller needs and nothing else."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from localcloud.aws.expand import expand, read
from rdsiam.errors import InvalidRequest
from rdsiam.events import aliases
from rdsiam.events.aliases import ACCEPTED, check_alias, check_no_version

ROOT = Path(__file__).parents[3]
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:rdsiam-Function-1A2B"
ONBOARD, PLAN = {"database": "arn"}, {"database": "arn", "plan": True}
CONFIRM, BEYOND = {"database": "arn", "confirm": True}, {"database": "arn", "beyond_limit": True}
RECONCILE = {"reconcile": True}
REVOKE, LIFT = {"database": "arn", "revoke": ["app"], "reason": "x"}, {"database": "arn", "lift": ["app"]}
MIGRATE = {"database": "arn", "user": "app", "watch": "7d", "confirm": True}
CONTINUE = MIGRATE | {"continues": "0" * 16}
REQUESTS: dict[str, list[Any]] = {
    "OnboardFunction": [ONBOARD, PLAN, CONFIRM, BEYOND, RECONCILE, RECONCILE | {"confirm": True}, REVOKE, LIFT],
    "AuditFunction": [{}, {"databases": ["arn"]}, {"remediate": ["id"], "confirm": True}],
    "SecretsFunction": [ONBOARD, PLAN, CONFIRM, {"list": True}, {"rotate": "arn"}, {"unstick": "arn"}],
    "MigrateFunction": [MIGRATE, MIGRATE | {"undo": True}, {"status": True}, CONTINUE],
    "VendFunction": [{"version": "2.0"}],
}
#: What each alias but `live` accepts.
NEEDED = {
    ("OnboardFunction", "events"): [ONBOARD, RECONCILE],
    ("OnboardFunction", "reconcile"): [ONBOARD, CONFIRM],
    ("OnboardFunction", "migrate"): [ONBOARD, PLAN, BEYOND],
    ("OnboardFunction", "audit"): [ONBOARD, PLAN, BEYOND],
    ("AuditFunction", "events"): [{}],
    ("SecretsFunction", "onboard"): [ONBOARD, PLAN],
    ("MigrateFunction", "continue"): [MIGRATE, CONTINUE],
}


def accepts(function, qualifier, request):
    arn = f"{FUNCTION}:{qualifier}" if qualifier else FUNCTION
    try:
        check_alias(ACCEPTED[function], SimpleNamespace(invoked_function_arn=arn), request)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("function", ACCEPTED)
def test_operators_may_ask_for_everything(function):
    requests = [request for request in REQUESTS[function] if request != CONTINUE]  # an execution's own
    assert all(accepts(function, "live", request) for request in requests)
    assert not accepts("MigrateFunction", "live", CONTINUE)


@pytest.mark.parametrize(("function", "alias"), NEEDED)
def test_an_alias_accepts_what_its_caller_needs_and_nothing_else(function, alias):
    accepted = [request for request in REQUESTS[function] if accepts(function, alias, request)]
    assert accepted == NEEDED[function, alias]


@pytest.mark.parametrize("qualifier", ["", "$LATEST", "1", "17", "LIVE", "live ", "other"])
@pytest.mark.parametrize("function", ACCEPTED)
def test_whoever_uses_no_known_alias_gets_nothing(function, qualifier):
    assert not any(accepts(function, qualifier, request) for request in REQUESTS[function])


@pytest.mark.parametrize("qualifier", ["1", "17", "live", "other"])
def test_a_function_without_aliases_accepts_nothing_by_a_version(qualifier):
    with pytest.raises(InvalidRequest):
        check_no_version(SimpleNamespace(invoked_function_arn=f"{FUNCTION}:{qualifier}"))
    check_no_version(SimpleNamespace(invoked_function_arn=FUNCTION))
    check_no_version(SimpleNamespace(invoked_function_arn=f"{FUNCTION}:$LATEST"))


def test_every_function_checks_what_it_was_invoked_by():
    for app in (ROOT / "functions").glob("*/app.py"):
        assert re.search(r"^ +check_(alias|no_version)\(", app.read_text(), re.MULTILINE), app


def test_without_a_context_nothing_is_accepted():
    with pytest.raises(InvalidRequest):
        check_alias(aliases.ONBOARD, None, ONBOARD)
    with pytest.raises(InvalidRequest):
        check_no_version(None)


@pytest.mark.parametrize("request_", [[], None, "database"])
def test_only_an_object_is_a_request_of_another_function(request_):
    assert not accepts("OnboardFunction", "events", request_)


def test_sam_local_knows_no_aliases(monkeypatch):
    monkeypatch.setenv("AWS_SAM_LOCAL", "true")
    check_alias(aliases.ONBOARD, SimpleNamespace(invoked_function_arn=FUNCTION), REVOKE)


@pytest.mark.parametrize("function", ACCEPTED)
def test_the_template_has_the_aliases_that_the_code_knows_and_they_lead_to_one_version(function):
    expanded = expand(read(ROOT / "template.yaml"), boto3.Session(region_name="eu-west-1"), {})["Resources"]
    made = [
        each["Properties"]
        for each in expanded.values()
        if each["Type"] == "AWS::Lambda::Alias" and each["Properties"]["FunctionName"] == {"Ref": function}
    ]
    assert {each["Name"] for each in made} == set(ACCEPTED[function])
    assert len({str(each["FunctionVersion"]) for each in made}) == 1
