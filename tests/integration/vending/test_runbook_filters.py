"""Each filter that docs/runbooks.md prints finds what it should among real log lines of the functions."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import filter_patterns, insights
from tests.documented import blocks_of
from tests.integration.account import Account, until
from tests.integration.api_requests import get, post

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "runbooks.md"
TEXT = PAGE.read_text()
QUERIES = [
    line
    for block in blocks_of(PAGE)
    if block.words[0] == "text"
    for line in block.text.splitlines()
    if "filter" in line
]
SHELL = [line for block in blocks_of(PAGE) if block.is_shell for line in block.text.splitlines()]
PATTERNS = [match[1] for line in SHELL if (match := re.search("--filter-pattern '(.*)'", line))]
JQ = [line for line in SHELL if "jq" in line]
DURABLE = ("OnboardFunction", "AuditFunction", "MigrateFunction")
Lines = dict[str, list[dict[str, Any]]]


def of(account: Account) -> Lines:
    """Return the lines of each function, without those of metrics. Lambda's own text ends without a newline here."""
    return {
        file.stem: [json.loads(text) for text in re.findall(r'\{"level".*', file.read_text())]
        for file in account.cloud.logs.glob("*Function.log")
    }


@pytest.fixture(scope="module")
def lines(account: Account, place: dict[str, Any]) -> Lines:
    """Have each function log about its work and its failures."""
    arn = place["arns"]["postgres"]
    caller, stranger = account.assume(place["vended"]), account.assume(place["stranger"])
    account.onboard(arn)
    account.onboard(arn, revoke=["app"], reason="leaked", plan=True)
    account.invoke("OnboardFunction", {"database": "orders-1"})
    account.invoke("AuditFunction", {"databases": [arn]})
    account.invoke("SecretsFunction", {"database": arn, "plan": True})
    account.invoke("MigrateFunction", {"status": True})
    fail_a_rotation(account, arn)
    get(account, caller, "/databases")
    assert post(account, caller, {"database": "tokens-postgres", "user": "app"}).status_code == 200
    assert post(account, stranger, {"database": "tokens-postgres", "user": "app"}).status_code == 403
    account.publish("version: 1\ndatabases: [{match: {}}]\n")
    account.start_afresh("VendFunction")
    assert post(account, caller, {"database": "tokens-postgres", "user": "app"}).status_code == 503
    start_reconcile(account)
    account.publish_entries()
    account.start_afresh("VendFunction")
    until(lambda: post(account, caller, {"database": "tokens-postgres", "user": "app"}).status_code == 200, 30)
    return of(account)


def start_reconcile(account: Account) -> None:
    """Start a reconcile with an access.yaml that can't be read, and wait until a step has failed; it is repeated."""
    name, log = account.cloud.functions["OnboardFunction"], account.cloud.logs / "OnboardFunction.log"
    account.cloud.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=b'{"reconcile": true}')
    until(lambda: "is repeated: AccessFileInvalid" in log.read_text(), 30)


def fail_a_rotation(account: Account, arn: str) -> None:
    """Rotate a secret that no entry of access.yaml declares, which RotateFunction refuses."""
    manager, endpoint = account.cloud.client("secretsmanager"), account.describe(arn)["Endpoint"]
    value = {"engine": "postgres", "host": endpoint["Address"], "port": endpoint["Port"], "dbname": "shop"}
    text = json.dumps(value | {"username": "app", "password": "x" * 32, "dbInstanceIdentifier": "tokens-postgres"})
    secret = manager.create_secret(Name="runbook-of-rotations", SecretString=text)["ARN"]
    function = account.cloud.client("lambda").get_function(FunctionName=account.cloud.functions["RotateFunction"])
    manager.rotate_secret(
        SecretId=secret,
        RotationLambdaARN=function["Configuration"]["FunctionArn"],
        RotationRules={"AutomaticallyAfterDays": 30},
    )
    log = account.cloud.logs / "RotateFunction.log"
    until(lambda: "rotation step failed" in log.read_text() and secret in log.read_text(), 30)
    manager.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def filled(text: str, lines: Lines) -> str:
    """Return a printed filter with names of the test's place."""
    onboarding = next(
        line for line in lines["OnboardFunction"] if line.get("database", "").endswith(":tokens-postgres")
    )
    names = {
        "orders-1": "tokens-postgres",
        "app_service": "app",
        "EXECUTION": onboarding["execution"],
        "REQUEST": onboarding["function_request_id"],
    }
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def test_the_page_has_filters_of_each_kind():
    assert len(QUERIES) >= 8
    assert len(PATTERNS) >= 2
    assert len(JQ) >= 2


@pytest.mark.parametrize("query", [query for query in QUERIES if "route" not in query])
def test_each_query_finds_lines_and_names_keys_that_they_have(lines, query):
    found = insights.found(filled(query, lines), [line for each in lines.values() for line in each])

    assert found
    keys = {key for line in found for key in line}
    assert insights.names(query) - keys == set()
    assert len(found) < sum(map(len, lines.values()))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_filter_pattern_finds_some_lines_and_leaves_others(lines, pattern):
    every = [line for each in lines.values() for line in each]
    found = [line for line in every if filter_patterns.matches(filled(pattern, lines), line)]

    assert 0 < len(found) < len(every)


@pytest.mark.parametrize("command", JQ)
def test_each_line_of_jq_prints_lines_without_nulls_for_what_it_selects(account, lines, command):
    command = filled(command, lines).replace("LOGS", str(account.cloud.logs))
    done = subprocess.run(["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True)

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found
    assert all(line["timestamp"] and line["message"] for line in found)


def test_the_query_of_throttled_callers_names_keys_of_the_access_log():
    (query,) = [query for query in QUERIES if "route" in query]
    (form,) = re.findall(r"""Format: '(\{"requestId".*\})'""", (ROOT / "template.yaml").read_text())
    line = json.loads(form)

    assert insights.names(query) - line.keys() == set()
    assert insights.found(query, [line | {"status": "429"}, line | {"status": "200"}, line | {"status": "403"}]) == [
        line | {"status": "429"},
        line | {"status": "200"},
    ]


@pytest.mark.parametrize(
    ("function", "message", "keys"),
    [
        ("OnboardFunction", "onboarding ended", {"database"}),
        ("OnboardFunction", "revocation ended", {"database", "user"}),
        ("OnboardFunction", "proved the login of app ", {"database", "user"}),
        ("OnboardFunction", "invocation failed: InvalidRequest", {"execution"}),
        ("OnboardFunction", "step failed and is repeated: AccessFileInvalid", {"execution"}),
        ("PolicyFunction", "policies done", {"database"}),
        ("VendFunction", "token vended", {"database", "user", "caller"}),
        ("VendFunction", "token refused", {"database", "user", "caller"}),
        ("VendFunction", "no token: AccessFileInvalid", {"database", "user", "caller"}),
        ("AuditFunction", "audit ended", {"audit"}),
        ("AuditBatchFunction", "audited arn:", {"database", "audit"}),
        ("SecretsFunction", "schedules applied", {"database"}),
        ("EventsFunction", "execution started", {"execution", "database"}),
        ("RotateFunction", "rotation step failed", {"secret", "step", "database"}),
        ("ReportsFunction", "shown", {"caller"}),
    ],
)
def test_lines_have_the_keys_of_what_they_are_about(lines, function, message, keys):
    found = [line for line in lines[function] if line["message"].startswith(message)]

    assert found
    assert any(keys <= line.keys() for line in found), found[-1]


def test_each_line_has_its_request_and_each_line_of_an_execution_names_it(lines):
    for function, each in lines.items():
        assert all(line.get("function_request_id") for line in each), function
        assert function not in DURABLE or all(line.get("execution") for line in each), function


def test_lines_of_metrics_have_their_request(account, lines):
    for function in ("VendFunction", "AuditFunction"):
        found = re.findall(r'\{"_aws".*', (account.cloud.logs / f"{function}.log").read_text())
        assert all(json.loads(line).get("function_request_id") for line in found), function
        assert found or function == "AuditFunction"  # an audit of single databases has none


def test_each_line_that_mentions_a_database_has_it_as_key(lines):
    named = re.compile(r"arn:aws:rds:[\w-]+:\d{12}:(db|cluster):[\w-]+")
    for function, each in lines.items():
        for line in each:
            match = named.search(line["message"])
            key = line.get("database", "")
            # A line about one instance of a cluster has the cluster as its database.
            assert match is None or match[0] == key or ":cluster:" in key, (function, line["message"])
