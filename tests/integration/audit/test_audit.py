"""The audit of real databases: from AuditFunction to the reports, and to all its readers."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rdsiam.findings.finding import SEVERITIES
from tests.integration.account import Account, processes_of, until

ENGINE_NAMES = ("postgres", "mariadb")


@pytest.fixture(scope="module")
def auditor(account) -> str:
    """Return a role that access.yaml names an auditor, and that may call the API."""
    role = account.make_role("audit-auditor")
    account.let_call_the_api(role)
    account.auditors.append({"role": role})
    return role


@pytest.fixture(scope="module")
def fleet(account, auditor) -> dict[str, str]:
    """Return a database of each engine with a user that logs in by token, and one of old."""
    role = account.make_role("audit-app")
    arns = {}
    for engine in ENGINE_NAMES:
        account.declare(f"audit-{engine}", {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
        arns[engine] = account.create(f"audit-{engine}", engine)
    for engine, arn in arns.items():
        account.wait_onboarded(arn, 120)
        with account.as_master(arn) as master:
            if engine == "postgres":
                master.run("CREATE ROLE legacy LOGIN PASSWORD 'legacy-password'")
            else:
                master.run("CREATE USER 'legacy'@'%' IDENTIFIED BY 'legacy-password'")
    account.start_afresh("ReportsFunction")
    assert get(account, auditor, "/audits").status_code == 200
    return arns


@pytest.fixture(scope="module")
def told(account, fleet) -> "Told":
    """Return the messages of EventBridge and of the digest's topic."""
    return Told(account)


class Told:
    """Queues behind the event bus and behind AuditTopic."""

    def __init__(self, account: Account) -> None:
        self._sqs = account.cloud.client("sqs")
        self._events = self._sqs.create_queue(QueueName="audit-events")["QueueUrl"]
        self._digests = self._sqs.create_queue(QueueName="audit-digests")["QueueUrl"]
        bus = account.cloud.client("events")
        pattern = {"source": ["rdsiam"], "detail-type": ["rdsiam.audit.completed", "rdsiam.audit.finding"]}
        bus.put_rule(Name="audit-events", EventPattern=json.dumps(pattern))
        bus.put_targets(Rule="audit-events", Targets=[{"Id": "queue", "Arn": self._arn(self._events)}])
        account.cloud.client("sns").subscribe(
            TopicArn=account.cloud.outputs["AuditTopic"], Protocol="sqs", Endpoint=self._arn(self._digests)
        )

    def events(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        return self._take(self._events)

    def digests(self) -> list[dict[str, Any]]:
        """Return the messages since the last call."""
        return self._take(self._digests)

    def _arn(self, queue: str) -> str:
        attributes = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        return str(attributes["QueueArn"])

    def _take(self, queue: str) -> list[dict[str, Any]]:
        taken = []
        while messages := self._sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                taken.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return taken


def audit(account: Account, *arns: str) -> dict[str, Any]:
    """Audit databases, or all without any, and return the answer."""
    answer: dict[str, Any] = account.invoke("AuditFunction", {"databases": list(arns)} if arns else {})
    assert "errorMessage" not in answer, answer
    return answer


def stored(account: Account, uri: str) -> str:
    """Return the object of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return str(account.cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())


def report(account: Account, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the report of an audit."""
    found: dict[str, Any] = json.loads(stored(account, answer["reports"]["json"]))
    return found


def entry(found: dict[str, Any], arn: str) -> dict[str, Any]:
    return next(one for one in found["databases"] if one["arn"] == arn)


def get(account: Account, role: str | None, path: str) -> requests.Response:
    """Ask the API, signed as the role; unsigned without one."""
    request = AWSRequest("GET", f"{account.cloud.api_url}{path}")
    if role:
        found = account.assume(role)
        keys = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        SigV4Auth(keys, "execute-api", account.cloud.region).add_auth(request)
    return requests.get(str(request.url), headers=dict(request.headers), timeout=30)


def server_of(account: Account, arn: str) -> list[psutil.Process]:
    """Return the processes that listen at a database's address and port."""
    endpoint = account.describe(arn)["Endpoint"]
    address = (socket.gethostbyname(endpoint["Address"]), endpoint["Port"])
    listening = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.laddr == address and each.status == psutil.CONN_LISTEN
    }
    return [psutil.Process(pid) for pid in listening if pid]


@contextlib.contextmanager
def hanging(account: Account, arn: str) -> Iterator[None]:
    """Let a database accept connections and say nothing."""
    processes = server_of(account, arn)
    assert processes
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


# --- What comes of it ---


def test_an_audit_reads_every_database_and_finds_users_with_a_password(account, fleet):
    answer = audit(account, *fleet.values())
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (2, 2, 0)
    found = report(account, answer)
    assert {one["database"] for one in found["findings"] if one["kind"] == "user-without-iam"} == set(fleet.values())
    for arn in fleet.values():
        of_it = entry(found, arn)
        assert (of_it["read"], of_it["stage"]) == ("audited", None)
        assert of_it["accounts"] == {"total": 2, "iam": 1, "password": 1, "unusable": 0}
    assert found["summary"]["share"] == 0.5
    ranks = [SEVERITIES.index(one["severity"]) for one in found["findings"]]
    assert ranks == sorted(ranks)
    for kind in ("csv", "html"):
        assert stored(account, answer["reports"][kind])


def test_nothing_that_an_audit_keeps_is_a_secret(account, fleet):
    key = account.cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    secret = account.cloud.client("secretsmanager").create_secret(
        Name="audit-legacy",
        KmsKeyId=key,
        SecretString=json.dumps({"username": "legacy", "password": "canary-7f3a", "host": "somewhere.example"}),
    )["ARN"]
    answer = audit(account, *fleet.values())
    s3, bucket = account.cloud.client("s3"), account.cloud.outputs["ReportBucket"]
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"audits/{answer['id']}/")["Contents"]
    texts = {one["Key"]: stored(account, f"s3://{bucket}/{one['Key']}") for one in listed}
    assert secret in texts[f"audits/{answer['id']}/context.json"]
    masters = [account.master_password(arn) for arn in fleet.values()]
    for text in [*texts.values(), *(log.read_text() for log in account.cloud.logs.iterdir())]:
        assert not any(one in text for one in ["canary-7f3a", "X-Amz-Signature", *masters])


def test_a_remediated_user_is_resolved_and_first_seen_is_kept(account, fleet):
    first = report(account, audit(account))
    arn = fleet["postgres"]
    of_it = {one["id"]: one for one in first["findings"] if one["database"] == arn}
    assert of_it
    with account.as_master(arn) as master:
        master.run("DROP ROLE legacy")
    try:
        second = report(account, audit(account))
    finally:
        with account.as_master(arn) as master:
            master.run("CREATE ROLE legacy LOGIN PASSWORD 'legacy-password'")
    resolved = {one["id"] for one in second["resolved"]}
    gone = {id for id, one in of_it.items() if one["user"] == "legacy"}
    assert gone
    assert gone <= resolved
    for one in second["findings"]:
        if one["id"] in of_it:
            assert one["first_seen"] == of_it[one["id"]]["first_seen"]
    assert [run["id"] for run in second["trend"]][-2:] == [first["id"], second["id"]]


def test_new_findings_are_notified_and_nothing_else(account, fleet, told):
    audit(account)
    told.events(), told.digests()
    with account.as_master(fleet["mariadb"]) as master:
        master.run("CREATE USER 'intruder'@'%' IDENTIFIED BY 'intruder-password'")
        master.run("GRANT CREATE USER ON *.* TO 'intruder'@'%'")
    try:
        answer = audit(account)
        events, digests = told.events(), told.digests()
        assert [one["detail"]["id"] for one in events if one["detail-type"] == "rdsiam.audit.completed"] == [
            answer["id"]
        ]
        fresh = [one for one in report(account, answer)["findings"] if "intruder" in (one["user"] or "")]
        critical = {one["id"] for one in fresh if one["severity"] == "critical"}
        published = {one["detail"]["id"] for one in events if one["detail-type"] == "rdsiam.audit.finding"}
        assert critical
        assert critical == published
        assert len(digests) == 1
        assert all(one["id"] in digests[0]["Message"] for one in fresh)
        audit(account)
        assert {one["detail-type"] for one in told.events()} == {"rdsiam.audit.completed"}
        assert told.digests() == []
    finally:
        with account.as_master(fleet["mariadb"]) as master:
            master.run("DROP USER 'intruder'@'%'")
    metrics = [
        json.loads(line)
        for line in (account.cloud.logs / "AuditFunction.log").read_text().splitlines()
        if '"UnknownDatabases"' in line
    ]
    assert metrics[-1]["AuditsCompleted"] == [1.0]


def test_a_schedule_starts_an_audit_of_the_fleet(account, fleet):
    bus = account.cloud.client("events")
    rule = bus.describe_rule(Name="rdsiam-audit")
    assert rule["ScheduleExpression"] == "rate(1 day)"
    before = set(over(account))
    account.cloud.fire_schedule(rule["Name"])
    until(lambda: set(over(account)) - before, 90)


def over(account: Account) -> list[str]:
    """Return the ids of the audits of the fleet that are over."""
    listed = account.cloud.client("s3").list_objects_v2(
        Bucket=account.cloud.outputs["ReportBucket"], Prefix="audits/index/"
    )
    return [one["Key"].split("/")[-1].split(".")[0] for one in listed.get("Contents", []) if ".all." in one["Key"]]


# --- What may go wrong ---


def test_a_database_that_hangs_is_unknown_and_delays_no_other(account, fleet):
    with hanging(account, fleet["mariadb"]):
        answer = audit(account, *fleet.values())
    found = report(account, answer)
    assert (answer["databases"], answer["audited"], answer["unreachable"]) == (2, 1, 1)
    assert entry(found, fleet["postgres"])["read"] == "audited"
    unknown = entry(found, fleet["mariadb"])
    assert unknown["read"] == "unknown"
    assert unknown["stage"]
    assert unknown["cause"]
    assert any(one["kind"] == "database-unreachable" for one in found["findings"])


def test_an_audit_that_is_killed_continues_with_the_results_that_are_there(account, fleet):
    function = account.cloud.functions["AuditFunction"]
    before = set(runs(account))  # all of them: audits of some databases are never among those that are over
    with hanging(account, fleet["mariadb"]):
        account.cloud.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")
        (running,) = until(lambda: set(runs(account)) - before, 60)
        until(lambda: part(account, running, fleet["postgres"]), 60)
        kept = part(account, running, fleet["postgres"])
        # The one that waits and the one that works, whose batch begins anew.
        for name in ("AuditFunction", "AuditBatchFunction"):
            shot = processes_of(account.cloud.functions[name].partition(":")[0])
            assert shot
            for process in shot:
                process.send_signal(signal.SIGKILL)
    until(lambda: running in over(account), 120)
    assert part(account, running, fleet["postgres"]) == kept  # not audited again


def runs(account: Account) -> list[str]:
    listed = account.cloud.client("s3").list_objects_v2(
        Bucket=account.cloud.outputs["ReportBucket"], Prefix="audits/", Delimiter="/"
    )
    return [name for one in listed.get("CommonPrefixes", []) if (name := one["Prefix"].split("/")[1]) != "index"]


def part(account: Account, run: str, arn: str) -> Any:
    """Return when the result of a database was written; None before."""
    resource_id, prefix = account.describe(arn)["DbiResourceId"], f"audits/{run}/databases/"
    listed = account.cloud.client("s3").list_objects_v2(Bucket=account.cloud.outputs["ReportBucket"], Prefix=prefix)
    names = {each["Key"].removeprefix(prefix): each["LastModified"] for each in listed.get("Contents", [])}
    return next((at for name, at in names.items() if resource_id in name.split(".")), None)


def test_a_batch_that_dies_twice_leaves_its_databases_unknown_and_the_audit_ends(account, fleet):
    function, bucket = account.cloud.functions["AuditFunction"], account.cloud.outputs["ReportBucket"]
    before = set(runs(account))
    s3 = account.cloud.client("s3")
    with hanging(account, fleet["mariadb"]):
        payload = json.dumps({"databases": sorted(fleet.values())}).encode()
        account.cloud.client("lambda").invoke(FunctionName=function, InvocationType="Event", Payload=payload)
        (running,) = until(lambda: set(runs(account)) - before, 60)
        limit, died = time.monotonic() + 120, 0
        while not s3.list_objects_v2(Bucket=bucket, Prefix=f"audits/index/{running}.")["KeyCount"]:
            assert time.monotonic() < limit
            # No batch ends by itself before that: the database that hangs takes longer.
            for process in processes_of(account.cloud.functions["AuditBatchFunction"]):
                process.send_signal(signal.SIGKILL)
                died += 1
            time.sleep(0.3)
    assert died >= 2
    found = json.loads(stored(account, f"s3://{bucket}/audits/{running}/report.json"))
    assert found["summary"]["databases"] == 2
    assert found["summary"]["unreachable"] >= 1
    unknown = entry(found, fleet["mariadb"])
    assert (unknown["read"], unknown["stage"]) == ("unknown", "time")
    assert "failed twice" in unknown["cause"]


@pytest.mark.parametrize(
    "payload",
    [{"databases": []}, {"databases": "arn"}, {"database": "arn:aws:rds:eu-west-1:123456789012:db:x"}, {"deep": True}],
    ids=["none", "no list", "unknown field", "another"],
)
def test_a_request_that_is_not_understood_audits_nothing(account, fleet, payload):
    before = runs(account)
    answer = account.invoke("AuditFunction", payload)
    assert "InvalidRequest" in answer["errorType"]
    assert runs(account) == before


# --- Who may ---


def test_nobody_but_operators_and_the_schedule_starts_an_audit(account, fleet):
    role = account.make_role("audit-stranger")
    statement = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "*"}
    account.cloud.client("iam").put_role_policy(
        RoleName="audit-stranger",
        PolicyName="invoke",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    stranger = account.assume(role)
    bare = account.cloud.functions["AuditFunction"].partition(":")[0]
    names = [account.cloud.functions["AuditFunction"], bare, account.cloud.functions["ReportsFunction"]]
    for name in [*names, account.cloud.functions["AuditBatchFunction"]]:
        with pytest.raises(Exception, match="not authorized to perform: lambda:InvokeFunction"):
            account.cloud.client("lambda", stranger).invoke(FunctionName=name, Payload=b"{}")


def test_the_audit_may_read_no_secret_of_a_master_and_log_in_as_nobody_but_the_auditor(account, fleet):
    audit(account, fleet["postgres"])
    own = account.credentials_of("AuditFunction")
    secret = account.describe(fleet["postgres"])["MasterUserSecret"]["SecretArn"]
    with pytest.raises(Exception, match="explicit deny"):
        account.cloud.client("secretsmanager", own).get_secret_value(SecretId=secret)
    for user in ("rdsiam_auditor", "rdsiam_manager", "app"):
        assert account.refused(fleet["postgres"], user, account.token(fleet["postgres"], user, own))
    of_batches = account.credentials_of("AuditBatchFunction")
    for user in ("rdsiam_manager", "app"):
        assert account.refused(fleet["postgres"], user, account.token(fleet["postgres"], user, of_batches))


def test_security_hub_has_the_findings_and_knows_what_is_resolved(account, fleet):
    hub = account.cloud.client("securityhub")
    arn = fleet["mariadb"]
    with account.as_master(arn) as master:
        master.run("CREATE USER 'hubbed'@'%' IDENTIFIED BY 'hubbed-password'")
    try:
        found = report(account, audit(account))
    finally:
        with account.as_master(arn) as master:
            master.run("DROP USER 'hubbed'@'%'")
    ids = {one["id"] for one in found["findings"] if (one["user"] or "").startswith("hubbed")}
    assert ids

    def states() -> set[str]:
        prefix = f"rdsiam/{account.cloud.account}/{account.cloud.region}/"
        wanted = [{"Value": f"{prefix}{one}", "Comparison": "EQUALS"} for one in ids]
        return {one["RecordState"] for one in hub.get_findings(Filters={"Id": wanted})["Findings"]}

    assert states() == {"ACTIVE"}
    audit(account)
    assert states() == {"ARCHIVED"}


def test_auditors_see_past_audits_newest_first(account, fleet, auditor):
    ids = [audit(account, fleet["postgres"])["id"] for _ in range(3)]
    answer = get(account, auditor, "/audits?limit=2")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert [one["id"] for one in body["audits"]] == sorted(ids, reverse=True)[:2]
    assert body["audits"][0]["summary"]["audited"] == 1
    following = get(account, auditor, f"/audits?limit=1&before={body['next']}").json()
    assert following["audits"][0]["id"] == sorted(ids)[0]


def test_an_auditor_gets_links_that_fetch_one_report_each(account, fleet, auditor):
    done = audit(account, fleet["postgres"])
    body = get(account, auditor, f"/audits/{done['id']}").json()
    assert body["summary"]["databases"] == 1
    assert set(body["links"]) == {"json", "csv", "html", "asff", "ocsf"}
    fetched = requests.get(body["links"]["json"], timeout=30)
    assert fetched.status_code == 200
    assert fetched.json()["id"] == done["id"]
    assert requests.get(body["links"]["html"], timeout=30).headers["content-type"].startswith("text/html")
    assert all("X-Amz-Expires=300&" in link for link in body["links"].values())
    other = body["links"]["json"].replace("report.json", "context.json")
    assert requests.get(other, timeout=30).status_code == 403
    assert requests.get(body["links"]["json"].partition("?")[0], timeout=30).status_code == 403


@pytest.mark.parametrize("path", ["/audits", "/audits/20260101T000000Z-00000000", "/audits/index"])
def test_a_caller_that_is_no_auditor_learns_nothing(account, fleet, path):
    role = account.make_role(f"audit-nobody-{abs(hash(path))}")
    account.let_call_the_api(role)
    answer = get(account, role, path)
    assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert get(account, None, path).status_code == 403


@pytest.mark.parametrize(
    "name",
    ["20260101T000000Z-00000000", "index", "..%2F..%2Faccess.yaml", "%00", "index%2F", "a" * 2000, "%E2%80%AE"],
)
def test_an_audit_that_is_not_there_is_not_found_whatever_its_name(account, fleet, auditor, name):
    answer = get(account, auditor, f"/audits/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "before=x", "after=1"])
def test_an_invalid_query_is_refused(account, fleet, auditor, query):
    answer = get(account, auditor, f"/audits?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_finding_that_onboarding_remediates_is_remediated_by_its_id(account, fleet):
    arn = fleet["mariadb"]
    with account.as_master(arn) as master:
        master.run("DROP USER 'app'@'%'")
    found = report(account, audit(account, arn))
    (missing,) = [one for one in found["findings"] if one["kind"] == "missing-user"]
    (legacy,) = [one for one in found["findings"] if one["user"] == "legacy@%"]
    ids = {"remediate": [missing["id"], legacy["id"], "0" * 20]}
    planned = account.invoke("AuditFunction", ids | {"plan": True})["remediated"]
    assert {one["finding"]: one["status"] for one in planned} == {
        missing["id"]: "planned",
        legacy["id"]: "ignored",
        "0" * 20: "unknown",
    }
    assert [change["kind"] for one in planned for change in one["changes"]].count("create-user") == 1
    assert "missing-user" in {one["kind"] for one in report(account, audit(account, arn))["findings"]}, "only a plan"
    mended = account.invoke("AuditFunction", ids)["remediated"]
    assert {one["status"] for one in mended} == {"onboarded", "ignored", "unknown"}
    assert "missing-user" not in {one["kind"] for one in report(account, audit(account, arn))["findings"]}


def test_a_finding_that_access_yaml_accepts_stays_visible_and_is_suppressed_in_security_hub(account, fleet):
    arn = fleet["postgres"]
    accepted = {"finding": "user-without-iam", "user": "legacy", "reason": "TICKET-12", "until": "2030-01-01T00:00:00Z"}
    account.entries["accepted"] = {"match": {"identifier": "audit-postgres"}, "suppress": [accepted]}
    account.publish_entries()
    try:
        found = report(account, audit(account))
    finally:
        del account.entries["accepted"]
        account.publish_entries()
    (finding,) = [one for one in found["findings"] if one["database"] == arn and one["user"] == "legacy"]
    assert finding["suppressed"] == {"reason": "TICKET-12", "until": "2030-01-01T00:00:00Z"}
    assert found["summary"]["suppressed"] >= 1
    pages = account.cloud.client("securityhub").get_paginator("get_findings").paginate()
    listed = [one for page in pages for one in page["Findings"] if one["Id"].endswith(finding["id"])]
    assert [one["Workflow"]["Status"] for one in listed] == ["SUPPRESSED"]
