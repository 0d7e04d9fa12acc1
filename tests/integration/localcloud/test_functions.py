"""Functions run, fail and are retried as on Lambda; a template of its own with plain and durable ones."""

import http.client
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from localcloud import client
from localcloud.client import RunningCloud

Eventually = Callable[[Callable[[], object]], Any]
TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.13, Handler: app.handler, Timeout: 1, CodeUri: plain}
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {Auth: {EnableIamAuthorizer: true, DefaultAuthorizer: AWS_IAM}}
  Plain:
    Type: AWS::Serverless::Function
    Properties:
      Environment: {Variables: {GREETING: !Sub "hello from ${AWS::Region}"}}
      Events:
        Echo: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: "/echo/{name}"}}
        Rule: {Type: EventBridgeRule, Properties: {Pattern: {source: [test], detail: {wanted: [true]}}}}
  Single:
    Type: AWS::Serverless::Function
    Properties: {ReservedConcurrentExecutions: 1}
  Durable:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: durable
      Timeout: 60
      AutoPublishAlias: live
      DurableConfig: {ExecutionTimeout: 60, RetentionPeriodInDays: 1}
      Environment: {Variables: {PLAIN: !Ref Plain}}
      Policies: [{Statement: [{Effect: Allow, Action: "lambda:InvokeFunction", Resource: !GetAtt Plain.Arn}]}]
"""
PLAIN = """
import os, time

def handler(event, context):
    print("event", event.get("mark"), context.aws_request_id)
    if "echo" in event.get("rawPath", ""):
        return {"statusCode": 201, "headers": {"X-Seen": "yes"}, "cookies": ["a=b"], "body": repr(event)}
    if event.get("detail"):
        return print("delivered", event["time"], event["detail"])
    if event.get("fail"):
        raise ValueError("as asked")
    time.sleep(event.get("sleep", 0))
    if event.get("die"):
        os.kill(os.getpid(), 9)
    return {"greeting": os.environ["GREETING"] if "GREETING" in os.environ else None, "pid": os.getpid(),
            "parent": os.getppid(), "variables": sorted(os.environ)}
"""
DURABLE = """
import os
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python.config import Duration

@durable_execution
def handler(event, context):
    for number in range(event.get("steps", 0)):
        context.step(lambda _: "x" * event["size"], name=f"step {number}")
    if event.get("branches"):
        context.map(range(event["branches"]), lambda each, *_: each.step(lambda _: 1, name="step"))
    first = context.step(lambda _: os.getpid(), name="first")
    if event.get("die") and not os.path.exists(event["die"]):
        open(event["die"], "w").close()
        os.kill(os.getpid(), 9)
    context.wait(Duration.from_seconds(1), name="wait")
    if event.get("fail"):
        raise ValueError("as asked")
    greeting = context.invoke(os.environ["PLAIN"], {"mark": "chained"}, name="ask")
    return {"greeting": greeting["greeting"], "first": first}
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    directory = tmp_path_factory.mktemp("functions")
    (directory / "template.yaml").write_text(TEMPLATE)
    for name, code in (("plain", PLAIN), ("durable", DURABLE)):
        (directory / name).mkdir()
        (directory / name / "app.py").write_text(textwrap.dedent(code))
    with client.start("--template", str(directory / "template.yaml"), log=directory / "cloud.log") as running:
        yield running


def _invoke(cloud: RunningCloud, function: str, event: dict[str, Any], **more: Any) -> Any:
    name = cloud.info["functions"][function]
    answer = cloud.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), **more)
    answer["Content"] = json.loads(answer["Payload"].read() or b"null")
    return answer


def _log(cloud: RunningCloud, function: str) -> str:
    return (cloud.logs / f"{function}.log").read_text()


def test_a_function_sees_its_own_environment_only(cloud: RunningCloud) -> None:
    content = _invoke(cloud, "Plain", {})["Content"]
    assert content["greeting"] == f"hello from {cloud.region}"
    allowed = {"GREETING", "LANG", "LC_CTYPE", "PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "TZ", "_HANDLER"}
    assert {name for name in content["variables"] if not name.startswith("AWS_")} <= allowed
    assert {"AWS_REGION", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"} <= set(content["variables"])


def test_an_exception_is_a_function_error(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Plain", {"fail": True})
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (answer["Content"]["errorType"], answer["Content"]["errorMessage"]) == ("ValueError", "as asked")


def test_a_time_out_is_a_function_error_and_the_next_environment_is_new(cloud: RunningCloud) -> None:
    before = _invoke(cloud, "Plain", {})["Content"]["parent"]
    answer = _invoke(cloud, "Plain", {"sleep": 5})
    assert answer["FunctionError"] == "Unhandled"
    assert "Task timed out after 1.00 seconds" in answer["Content"]["errorMessage"]
    assert _invoke(cloud, "Plain", {})["Content"]["parent"] != before


@pytest.mark.parametrize("whom", ["pid", "parent"], ids=["the runtime", "the emulator"])
def test_a_killed_environment_is_a_crash_to_the_caller_and_replaced(
    cloud: RunningCloud, whom: str, eventually: Eventually
) -> None:
    victim = _invoke(cloud, "Plain", {})["Content"]
    if whom == "pid":
        answer = _invoke(cloud, "Plain", {"die": True})
        assert (answer["FunctionError"], answer["Content"]["errorType"]) == ("Unhandled", "Runtime.ExitError")
    else:
        emulator = psutil.Process(victim["parent"])
        emulator.kill()
        eventually(lambda: not emulator.is_running() or emulator.status() == psutil.STATUS_ZOMBIE)
    # A new environment on a busy machine may take longer than the second that this function has.
    eventually(lambda: _invoke(cloud, "Plain", {})["Content"].get("parent", victim["parent"]) != victim["parent"])


def test_an_event_is_accepted_and_tried_three_times(cloud: RunningCloud, eventually: Eventually) -> None:
    assert _invoke(cloud, "Plain", {"mark": "thrice", "fail": True}, InvocationType="Event")["StatusCode"] == 202
    eventually(lambda: _log(cloud, "Plain").count("event thrice") == 3)


def test_a_dry_run_runs_nothing(cloud: RunningCloud) -> None:
    assert _invoke(cloud, "Plain", {"mark": "dry"}, InvocationType="DryRun")["StatusCode"] == 204
    assert "event dry" not in _log(cloud, "Plain")


def test_an_unknown_function_is_not_found(cloud: RunningCloud) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        cloud.client("lambda").invoke(FunctionName="unknown")


def test_names_and_arns_name_a_function(cloud: RunningCloud) -> None:
    name = cloud.info["functions"]["Plain"]
    for each in (f"123456789012:function:{name}", f"arn:aws:lambda:{cloud.region}:123456789012:function:{name}"):
        assert cloud.client("lambda").invoke(FunctionName=each)["StatusCode"] == 200


def test_a_payload_too_large_is_refused(cloud: RunningCloud) -> None:
    with pytest.raises(ClientError, match="RequestTooLarge"):
        _invoke(cloud, "Plain", {"x": "y" * 1024 * 1024}, InvocationType="Event")


def test_reserved_concurrency_makes_others_wait(cloud: RunningCloud) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: _invoke(cloud, "Single", {"sleep": 0.2})["Content"], range(4)))
    assert len({answer["parent"] for answer in answers}) == 1
    assert time.monotonic() - began >= 0.8


def test_a_rule_delivers_events_that_match(cloud: RunningCloud, eventually: Eventually) -> None:
    entry = {"Source": "test", "DetailType": "t"}
    cloud.client("events").put_events(
        Entries=[entry | {"Detail": json.dumps({"wanted": wanted, "n": n})} for n, wanted in ((1, True), (2, False))]
    )
    eventually(lambda: "delivered 20" in _log(cloud, "Plain"))
    assert "'n': 2" not in _log(cloud, "Plain")


def test_a_durable_function_waits_and_invokes_others(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Durable", {})
    assert answer["Content"]["greeting"] == f"hello from {cloud.region}"
    execution = cloud.client("lambda").get_durable_execution(DurableExecutionArn=answer["DurableExecutionArn"])
    assert execution["Status"] == "SUCCEEDED"
    history = cloud.client("lambda").get_durable_execution_history(DurableExecutionArn=answer["DurableExecutionArn"])
    assert {"first", "wait", "ask"} <= {event.get("Name") for event in history["Events"]}


def test_a_durable_function_that_fails_says_so(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Durable", {"fail": True})
    assert (answer["FunctionError"], answer["Content"]["errorMessage"]) == ("Unhandled", "as asked")


def test_a_result_that_has_no_room_in_a_checkpoint_fails_the_execution(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Durable", {"steps": 1, "size": 262_143})  # and two quotation marks
    assert answer["FunctionError"] == "Unhandled"
    message = answer["Content"]["errorMessage"]
    assert "STEP output payload size must be less than or equal to 262144 bytes." in message
    assert "FunctionError" not in _invoke(cloud, "Durable", {"steps": 1, "size": 262_142})


@pytest.mark.exhaustive
def test_an_execution_that_has_used_up_its_data_fails(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Durable", {"steps": 500, "size": 262_000})
    assert answer["FunctionError"] == "Unhandled"
    assert "has written more than 104857600 bytes" in answer["Content"]["errorMessage"]


def test_an_execution_that_has_used_up_its_operations_fails(cloud: RunningCloud) -> None:
    answer = _invoke(cloud, "Durable", {"branches": 1_500})
    assert answer["FunctionError"] == "Unhandled"
    assert "has more than 3000 operations" in answer["Content"]["errorMessage"]


def test_a_durable_function_is_invoked_by_alias_only(cloud: RunningCloud) -> None:
    name = cloud.info["functions"]["Durable"].split(":")[0]
    with pytest.raises(ClientError, match="unqualified"):
        cloud.client("lambda").invoke(FunctionName=name)


def test_an_execution_s_name_is_used_once(cloud: RunningCloud) -> None:
    first = _invoke(cloud, "Durable", {"n": 1}, InvocationType="Event", DurableExecutionName="once")
    again = _invoke(cloud, "Durable", {"n": 1}, InvocationType="Event", DurableExecutionName="once")
    assert (first["StatusCode"], first["DurableExecutionArn"]) == (202, again["DurableExecutionArn"])
    with pytest.raises(ClientError, match="DurableExecutionAlreadyStarted"):
        _invoke(cloud, "Durable", {"n": 2}, InvocationType="Event", DurableExecutionName="once")


def test_a_killed_durable_function_goes_on_where_it_was(cloud: RunningCloud, tmp_path: Path) -> None:
    content = _invoke(cloud, "Durable", {"die": str(tmp_path / "died")})["Content"]
    assert (tmp_path / "died").exists()
    assert content["greeting"] == f"hello from {cloud.region}"


def test_the_api_passes_the_caller_to_the_function(cloud: RunningCloud) -> None:
    status, headers, body = _post(cloud, "/echo/a%20b?x=1&x=2", b'{"q": 1}')
    assert (status, headers["x-seen"], headers["set-cookie"]) == (201, "yes", "a=b")
    assert "'userArn': 'arn:aws:iam::123456789012:user/administrator'" in body
    assert "'pathParameters': {'name': 'a b'}" in body
    assert "'queryStringParameters': {'x': '1,2'}" in body


@pytest.mark.parametrize(
    ("path", "service", "status"),
    [("/echo/a", "lambda", 403), ("/echo/a", None, 403), ("/nowhere", "execute-api", 404)],
    ids=["other service", "not signed", "no such route"],
)
def test_the_api_lets_nobody_else_in(cloud: RunningCloud, path: str, service: str | None, status: int) -> None:
    assert _post(cloud, path, b"{}", service)[0] == status


@pytest.mark.exhaustive  # a cloud of its own
def test_a_route_without_an_authorizer_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace(", DefaultAuthorizer: AWS_IAM", ""))
    with pytest.raises(client.CloudFailed, match="authorizer"):
        client.start("--template", str(tmp_path / "template.yaml"), log=tmp_path / "cloud.log")


def _post(cloud: RunningCloud, path: str, body: bytes, service: str | None = "execute-api") -> tuple[int, Any, str]:
    request = AWSRequest("POST", cloud.api_url + path, {"Content-Type": "application/json"}, body)
    if service is not None:
        credentials = cloud.session().get_credentials()
        assert credentials is not None
        SigV4Auth(credentials, service, cloud.region).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(cloud.api_url).netloc)
    connection.request("POST", path, body, dict(request.headers))
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
