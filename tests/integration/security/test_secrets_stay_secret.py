"""Nothing that is written holds a secret: planted and real ones are looked for in every sink of every worker's cloud.

It comes last, when all other tests have filled the sinks.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.integration.account import Account, until
from tests.integration.api_requests import post
from tests.spreading import WORKERS

#: Files of databases are not read: what a server stores of its own users is the server's.
SINKS = ("logs", "durable")


def password_in(value: str) -> str | None:
    """Return the password of a secret; other tests make some that hold none, are no JSON, or hold an everyday word."""
    try:
        read = json.loads(value)
    except ValueError:
        return None
    password = read.get("password") if isinstance(read, dict) else None
    return password if isinstance(password, str) and len(password) >= 12 else None


@pytest.fixture(scope="module", params=range(WORKERS), autouse=True)
def worker() -> None:
    """Each worker gets one of the parameters, and looks through its own cloud."""


@pytest.fixture(scope="module")
def secrets(account, place) -> dict[str, str]:
    """Everything that is secret in this cloud, by what it is; a request that fails in every way adds some more."""
    found: dict[str, str] = {}
    owner = account.make_role("canary-owner")
    account.declare("canary", {"name": "canary", "privileges": "owner", "on": ["shop"], "roles": [owner]})
    arn = account.create("canary")
    account.wait_onboarded(arn)
    credentials = account.assume(place["vended"])
    found["a caller's secret key"] = credentials["SecretAccessKey"]
    found["a caller's session token"] = credentials["SessionToken"]
    answer = post(account, credentials, {"database": "tokens-postgres", "user": "app"}).json()
    found |= parts("a vended token", answer["token"])
    own = account.token(arn, "canary", account.assume(owner))
    found |= parts("a token signed by its role", own)
    account.refused(arn, "rdsiam_auditor", own)
    account.refused(arn, "canary", "canary-password-as-a-login")
    found["a password that was tried"] = "canary-password-as-a-login"
    found |= account.passwords
    for instance in account.cloud.client("rds").describe_db_instances()["DBInstances"]:
        if instance.get("MasterUserSecret"):
            found[f"the master's password of {instance['DBInstanceIdentifier']}"] = account.master_password(
                instance["DBInstanceArn"]
            )
    secrets_manager = account.cloud.client("secretsmanager")
    for secret in secrets_manager.list_secrets(MaxResults=100)["SecretList"]:
        for stage in secret.get("SecretVersionsToStages", {}):
            with contextlib.suppress(ClientError):  # a version that has no value yet
                value = secrets_manager.get_secret_value(SecretId=secret["ARN"], VersionId=stage)["SecretString"]
                password = password_in(value)
                if password:
                    found[f"a password of {secret['Name']} {stage}"] = password
    fail_in_every_way(account, arn, found)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get("AWS_ENDPOINT_URL") == account.cloud.endpoint:
                name = environment.get("AWS_LAMBDA_FUNCTION_NAME", process.name())
                for key in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
                    if key in environment:
                        found[f"{key} of {name} {process.pid}"] = environment[key]
    return found


def parts(what: str, token: str) -> dict[str, str]:
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", token)
    session = re.search("X-Amz-Security-Token=([^&]+)", token)
    assert signature
    assert session
    return {f"{what}: signature": signature[1], f"{what}: session token": session[1][:60]}


def fail_in_every_way(account: Account, arn: str, found: dict[str, str]) -> None:
    """Provoke the failures that could print what they were given."""
    # Not in OnboardFunction's: what a durable function is invoked with, AWS stores.
    for payload in (
        {"database": "canary-in-a-request"},
        {"canary in a request": 1, "database": arn},
        {"database": arn, "plan": "canary-in-a-request"},
    ):
        account.invoke("PolicyFunction", payload, account.credentials_of("OnboardFunction"))
    found["a value in a malformed request"] = "canary-in-a-request"
    rotate_what_is_nobodys(account)
    found["a password that is not rotated"] = "canary-of-nobody"
    secret = account.describe(arn)["MasterUserSecret"]["SecretArn"]
    secrets_manager = account.cloud.client("secretsmanager")
    whole = secrets_manager.get_secret_value(SecretId=secret)["SecretString"]
    # A secret that is no JSON, and one that does not log in: each fails where it is used.
    users = account.entries["canary"]["users"]
    wanted = {"name": "another", "privileges": "readonly", "on": ["shop"], "adopt": True}
    with account.as_master(arn) as master:
        master.run("CREATE ROLE another LOGIN PASSWORD 'canary-in-a-role-1'")
        master.run("CREATE TABLE of_master (id int)")
    found["a password of a role"] = "canary-in-a-role-1"
    try:
        for broken in ("canary-instead-of-json", json.dumps({"username": "boss", "password": "canary-wrong-password"})):
            secrets_manager.put_secret_value(SecretId=secret, SecretString=broken)
            account.cloud.client("lambda").invoke(
                FunctionName=account.cloud.functions["OnboardFunction"],
                InvocationType="Event",
                Payload=json.dumps({"database": arn}),
            )
            account.declare("canary", *users, wanted)
            account.onboard(arn, plan=True)
    finally:
        secrets_manager.put_secret_value(SecretId=secret, SecretString=whole)
        account.declare("canary", *users)
    found["a secret that is no JSON"] = "canary-instead-of-json"
    found["a wrong password in a secret"] = "canary-wrong-password"


def rotate_what_is_nobodys(account: Account) -> None:
    """Have a secret rotated that RotateFunction refuses, as no tag and no record say that it is rdsiam's."""
    manager, log = account.cloud.client("secretsmanager"), account.cloud.logs / "RotateFunction.log"
    before = log.stat().st_size if log.exists() else 0
    document = {"engine": "postgres", "host": "canary", "username": "canary", "password": "canary-of-nobody"}
    arn = manager.create_secret(Name="canary-rotated", SecretString=json.dumps(document))["ARN"]
    manager.rotate_secret(
        SecretId=arn,
        RotationLambdaARN=account.cloud.outputs["RotateFunction"],
        RotationRules={"AutomaticallyAfterDays": 30},
    )
    until(lambda: log.exists() and log.stat().st_size > before, 20)
    manager.cancel_rotate_secret(SecretId=arn)


def sinks(account: Account) -> dict[str, bytes]:
    """Return everything that is written, by where."""
    found = files(account)
    log = account.cloud.info.get("log")
    assert log is None
    dynamodb = account.cloud.client("dynamodb")
    for table in ("InventoryTable", "DecisionsTable"):
        found[table] = json.dumps(dynamodb.scan(TableName=account.cloud.outputs[table])["Items"]).encode()
    found["durable executions"] = json.dumps(histories(account), default=str).encode()
    return found


def files(account: Account) -> dict[str, bytes]:
    """Return the files among the sinks."""
    return {
        str(file.relative_to(account.cloud.directory)): file.read_bytes()
        for name in SINKS
        for file in sorted((account.cloud.directory / name).rglob("*"))
        if file.is_file()
    }


def leaks(secret: str, written: Mapping[str, bytes]) -> list[str]:
    """Return where a secret is written, in any of its forms."""
    forms = {form.encode() for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    return [where for where, text in written.items() if any(form in text for form in forms)]


def histories(account: Account) -> list[Any]:
    """Return what the API tells of the newest executions; the files of all of them are among the sinks."""
    client = account.cloud.client("lambda")
    name = account.cloud.functions["OnboardFunction"].partition(":")[0]
    executions = client.list_durable_executions_by_function(FunctionName=name)["DurableExecutions"]
    assert executions
    result: list[Any] = []
    for execution in sorted(executions, key=lambda each: each["StartTimestamp"])[-40:]:
        arn = execution["DurableExecutionArn"]
        result.append(client.get_durable_execution(DurableExecutionArn=arn))
        pages = client.get_durable_execution_history(DurableExecutionArn=arn, IncludeExecutionData=True)
        result.append(pages["Events"])
    return result


def test_no_secret_is_in_anything_that_is_written(account, secrets):
    assert len(secrets) > 12
    written = sinks(account)
    functions = ("OnboardFunction", "VendFunction", "PolicyFunction", "RotateFunction")
    assert {f"logs/{name}.log" for name in functions} <= set(written)
    assert b"proved the login" in written["logs/OnboardFunction.log"]
    found = {what: places for what, secret in secrets.items() if (places := leaks(secret, written))}
    assert found == {}


def test_the_search_would_find_one(account, secrets):
    log = account.cloud.logs / "planted.log"
    planted = next(iter(secrets.values()))
    log.write_text(f"before {planted} after")
    try:
        assert leaks(planted, files(account)) == ["logs/planted.log"]
    finally:
        log.unlink()
