"""Rules for template.yaml that scanners miss: as written, and as AWS's translator expands it."""

import copy
import json
import re
import tomllib

import boto3
import pytest

from localcloud.aws.expand import expand
from rdsiam.core.connect_roles import connect_roles
from rdsiam.state import leases, role_leases
from tests.unit.template import (
    ALARMS,
    FUNCTIONS,
    RESOURCES,
    ROOT,
    RUNBOOKS,
    SAM,
    STATEMENTS,
    TEXT,
    expanded,
    of_type,
    routes_without_authorizer,
    strings,
)

# --- Order -----------------------------------------------------------------------------------------------------------


def test_functions_roles_and_storage_come_before_alarms_and_dashboards():
    kinds = [each["Type"] for each in SAM["Resources"].values()]
    first = {
        "AWS::Serverless::Function",
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
        "AWS::S3::Bucket",
        "AWS::DynamoDB::Table",
    }
    last = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"}
    assert max(at for at, kind in enumerate(kinds) if kind in first) < min(
        at for at, kind in enumerate(kinds) if kind in last
    )


def test_the_template_is_short_enough_to_be_read():
    assert len(TEXT.splitlines()) <= 2440


# --- Routes ----------------------------------------------------------------------------------------------------------


def test_every_route_has_an_authorizer():
    assert not routes_without_authorizer(RESOURCES)


def test_a_route_without_authorizer_would_be_found():
    open_to_all = copy.deepcopy(SAM)
    del open_to_all["Resources"]["Api"]["Properties"]["Auth"]
    assert sorted(routes_without_authorizer(expanded(open_to_all))) == [
        "get /audits",
        "get /audits/{id}",
        "get /databases",
        "get /decisions",
        "get /openapi.json",
        "post /tokens",
    ]


def test_nothing_caches_answers_or_authorizations():
    names = {text.lower() for text in strings(RESOURCES)}
    assert not {name for name in names if "caching" in name or "cachecluster" in name or "resultttl" in name}


def test_the_access_log_takes_nothing_that_a_caller_wrote():
    logged = SAM["Resources"]["Api"]["Properties"]["AccessLogSettings"]["Format"]
    taken = set(re.findall(r"\$(context[\w.]*)", logged))
    assert taken
    assert all(name.split(".")[1] not in {"integration", "path", "querystring", "body"} for name in taken)


# --- Functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_log_group_with_retention_and_key(name):
    config = FUNCTIONS[name]["Properties"]["LoggingConfig"]
    group = RESOURCES[config["LogGroup"]["Ref"]]["Properties"]
    assert config["LogFormat"] == "JSON"
    assert group["RetentionInDays"]
    assert group["KmsKeyId"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_its_alarms(name):
    watched = {
        alarm["Properties"]["MetricName"]: alarm["Properties"]
        for alarm in ALARMS.values()
        if {"Name": "FunctionName", "Value": {"Ref": name}} in alarm["Properties"].get("Dimensions", [])
    }
    assert set(watched) == {"Errors", "Throttles", "Duration"}
    assert watched["Duration"]["ExtendedStatistic"] == "p99"
    assert watched["Duration"]["Threshold"] == 0.8 * 1000 * FUNCTIONS[name]["Properties"]["Timeout"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_neither_the_tracer_nor_the_logger_captures_events_or_answers(name):
    variables = FUNCTIONS[name]["Properties"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_TRACER_CAPTURE_RESPONSE"] == "false"
    assert variables["POWERTOOLS_TRACER_CAPTURE_ERROR"] == "false"
    assert not {"POWERTOOLS_LOGGER_LOG_EVENT", "POWERTOOLS_DEV", "POWERTOOLS_DEBUG"} & set(variables)
    assert FUNCTIONS[name]["Properties"]["TracingConfig"] == {"Mode": "Active"}


def test_what_is_invoked_asynchronously_keeps_what_it_gives_up():
    rules = of_type("AWS::Events::Rule", "AWS::Scheduler::Schedule")
    targets = [target for rule in rules.values() for target in rule["Properties"]["Targets"]]
    assert targets
    assert all("DeadLetterConfig" in target for target in targets)
    aliases = {key: each["Properties"]["FunctionName"]["Ref"] for key, each in of_type("AWS::Lambda::Alias").items()}
    invoked = {text for target in targets for text in strings(target["Arn"])}
    functions = {aliases.get(text, text) for text in invoked} & set(FUNCTIONS)
    assert functions
    assert all("DeadLetterConfig" in FUNCTIONS[name]["Properties"] for name in functions)


@pytest.mark.parametrize("name", [key for key, each in SAM["Resources"].items() if "AutoPublishAlias" in str(each)])
def test_a_new_layer_makes_a_new_version(name):
    assert SAM["Resources"][name]["Properties"]["AutoPublishAliasAllProperties"] is True


def test_new_versions_of_vending_take_over_behind_alarms():
    preference = SAM["Resources"]["VendFunction"]["Properties"]["DeploymentPreference"]
    assert {alarm["Ref"] for alarm in preference["Alarms"]} == {"VendErrorsAlarm", "TokensFailedAlarm"}


@pytest.mark.parametrize("name", ["VendFunction", "PolicyFunction", "AuditFunction", "ReportsFunction"])
def test_functions_without_a_database_are_outside_the_vpc(name):
    assert "VpcConfig" not in FUNCTIONS[name]["Properties"]


def test_the_audit_logs_in_as_the_auditor_and_as_nobody_else():
    connecting = [one for one in STATEMENTS if "rds-db:connect" in one.actions]
    of_the_audit = [one for one in connecting if one.role.startswith("Audit")]
    assert [(one.role, one.effect) for one in of_the_audit] == [("AuditBatchFunctionRole", "Allow")]
    assert all(resource.endswith("dbuser:*/rdsiam_auditor") for resource in of_the_audit[0].resources)


#: Statements for what Lambda does in a function's name.
OF_LAMBDA = {
    "UseKey",
    "KeepDeadLetters",
    "WriteLog",
    "KeepCheckpoints",
    "ReadOwnExecutions",
    "ChangeNetworkInterfaces",
    "NeverFromCode",
}


def test_the_audit_can_change_nothing():
    changing = {"s3:PutObject", "lambda:InvokeFunction", "events:PutEvents", "sns:Publish"}
    changing |= {
        "securityhub:BatchImportFindings",
        "securityhub:BatchUpdateFindings",
        "rds-db:connect",
        "kms:Decrypt",
        "secretsmanager:GetSecretValue",
    }
    for one in STATEMENTS:
        if one.sid in OF_LAMBDA:
            continue
        if one.role in {"AuditFunctionRole", "AuditBatchFunctionRole", "ReportsFunctionRole"}:
            assert all(
                re.search(r":(Describe|List|Get|BatchGet|Query|Scan)", action) or action in changing
                for action in one.actions
            )
            assert (
                one.effect == "Deny"
                or "s3:PutObject" not in one.actions
                or any(own in str(one.resources) for own in ("audits/", "ResultBucket.Arn}/Audit/*"))
            )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_role_of_a_name_that_policies_of_tables_and_keys_can_foretell(name):
    assert FUNCTIONS[name]["Properties"]["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    own = RESOURCES[f"{name}Role"]["Properties"]
    assert own["RoleName"] == {"Fn::Sub": f"${{AWS::StackName}}-{name}Role-${{AWS::Region}}"}
    assert "PermissionsBoundary" in own


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_writes_its_own_log_only(name):
    log = FUNCTIONS[name]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
    own = [one for one in STATEMENTS if one.role == f"{name}Role"]
    written = {one.resources for one in own if any(action.startswith("logs:") for action in one.actions)}
    assert written == {(f"{log}.Arn",)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_durable_function_keeps_its_own_executions_only(name):
    own = [one for one in STATEMENTS if one.role == f"{name}Role"]
    kept = {one.resources for one in own if any("DurableExecution" in action for action in one.actions)}
    assert kept == ({(f"${{{name}.Arn}}:*",)} if "DurableConfig" in FUNCTIONS[name]["Properties"] else set())


@pytest.mark.parametrize("name", of_type("AWS::IAM::Role"))
def test_no_policy_of_aws_lets_a_role_write_logs_keep_executions_or_make_interfaces(name):
    assert "AWSLambda" not in json.dumps(RESOURCES[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_network_interfaces_are_made_for_functions_in_the_vpc_and_never_by_their_code(name):
    of_ec2 = [
        one
        for one in STATEMENTS
        if one.role == f"{name}Role" and any(action.startswith("ec2:") for action in one.actions)
    ]
    allowed = {action for one in of_ec2 if one.effect == "Allow" for action in one.actions}
    denied = [one for one in of_ec2 if one.effect == "Deny"]
    assert allowed == {action for one in denied for action in one.actions}
    assert bool(allowed) == ("VpcConfig" in FUNCTIONS[name]["Properties"])
    assert all(one.condition == '{"Null": {"lambda:SourceFunctionArn": "false"}}' for one in denied)
    assert RESOURCES["NetworkInterfacesPolicy"]["Condition"] == "InVpc"


# --- Alarms ----------------------------------------------------------------------------------------------------------


def test_the_documentation_counts_what_the_template_has():
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    numbers = re.search(r"^\| (\d+) alarms and (\d+) dashboards \|", text, re.MULTILINE)
    assert numbers
    assert [int(number) for number in numbers.groups()] == [len(ALARMS), len(of_type("AWS::CloudWatch::Dashboard"))]


@pytest.mark.parametrize("name", ALARMS)
def test_every_alarm_notifies_a_topic_and_names_its_runbook(name):
    properties = ALARMS[name]["Properties"]
    assert properties["AlarmActions"] == [{"Ref": "AlarmTopic"}]
    anchor = re.search(r"\$\{RunbookUrl\}#([a-z-]+)$", properties["AlarmDescription"]["Fn::Sub"])
    assert anchor, "no runbook"
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOKS, re.MULTILINE)}
    assert anchor[1] in headings


def test_the_metrics_that_alarms_watch_are_published():
    notify = ROOT / "layers" / "rdsiam" / "rdsiam" / "audit" / "notify.py"
    apps = [ROOT / "functions" / name / "app.py" for name in ("onboard", "vend")]
    source = "".join(path.read_text() for path in (*apps, notify))
    ours = {
        each["Properties"]["MetricName"]
        for each in ALARMS.values()
        if each["Properties"].get("Namespace") == SAM["Globals"]["Function"]["Environment"]["Variables"][
            "POWERTOOLS_METRICS_NAMESPACE"
        ]
    }  # fmt: skip
    assert ours == {
        "TokensRefused", "TokensFailed", "UnknownDatabases", "NewCriticalFindings", "AuditsCompleted",
        "UnhealthyRotations", "AccessFileWaits",
    }  # fmt: skip
    assert all(f'"{name}"' in source for name in ours)


@pytest.mark.parametrize("name", of_type("AWS::CloudWatch::Dashboard"))
def test_dashboards_can_be_read(name):
    body = RESOURCES[name]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert json.loads(re.sub(r"\$\{[\w:.]+\}", "x", body))["widgets"]
    assert set(re.findall(r"\$\{(\w+)", body)) - {"AWS"} <= set(RESOURCES)


# --- Parameters ------------------------------------------------------------------------------------------------------


def test_no_partition_is_written_down():
    assert not re.findall(r".*arn:aws(?:-cn|-us-gov)?:.*", TEXT)


@pytest.mark.parametrize("name", ["OnboardFunction", "MigrateFunction"])
def test_a_lease_is_valid_for_longer_than_who_holds_it_can_run(name):
    assert FUNCTIONS[name]["Properties"]["Timeout"] + 60 <= leases.SECONDS


def test_a_lease_of_a_role_is_valid_for_longer_than_policy_function_can_run():
    assert FUNCTIONS["PolicyFunction"]["Properties"]["Timeout"] + 15 <= role_leases.SECONDS


@pytest.mark.parametrize("number", range(2, 11))
def test_shards_of_connect_role_have_its_trust_and_its_policies_and_a_name_that_functions_know(number):
    shard, first = (dict(RESOURCES[f"ConnectRole{each}"]) for each in (number, ""))
    name = shard["Properties"].pop("RoleName")["Fn::Sub"]
    assert shard == first
    stack = {"AWS::StackName": "payments", "AWS::Region": "eu-west-1"}
    known = connect_roles({
        "RDSIAM_CONNECT_ROLE": "arn:aws:iam::123456789012:role/first",
        "RDSIAM_CONNECT_ROLE_SHARDS": "10", "POWERTOOLS_SERVICE_NAME": "payments", "AWS_REGION": "eu-west-1",
    })  # fmt: skip
    assert known[number - 1].rpartition("/")[2] == re.sub(r"\$\{(.*?)\}", lambda found: stack[found[1]], name)
    assumed = RESOURCES[f"VendFunctionAssumesConnectRole{number}"]
    (statement,) = assumed["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {"Fn::GetAtt": [f"ConnectRole{number}", "Arn"]}


def test_no_function_reserves_concurrency_unless_a_parameter_says_so():
    """New accounts have 10 to 50 concurrent executions, and AWS refuses every reservation there."""
    for name, function in FUNCTIONS.items():
        reserved = function["Properties"].get("ReservedConcurrentExecutions")
        if reserved is None:
            assert name == "EventsFunction"
            continue
        condition, parameter, otherwise = reserved["Fn::If"]
        assert SAM["Parameters"][parameter["Ref"]]["Default"] == "none", name
        assert SAM["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [parameter, "none"]}]}
        assert otherwise == {"Ref": "AWS::NoValue"}


def test_without_a_vpc_nothing_is_made_in_one():
    assert all("Condition" in each for key, each in RESOURCES.items() if each["Type"].startswith("AWS::EC2::"))


@pytest.mark.parametrize("name", SAM["Parameters"])
def test_parameters_explain_and_check_themselves(name):
    parameter = SAM["Parameters"][name]
    assert parameter["Description"].endswith((".", "?"))
    free = {"DatabaseCa", "RunbookUrl"}
    assert name in free or {"AllowedPattern", "AllowedValues", "MinValue"} & set(parameter)
    if pattern := parameter.get("AllowedPattern"):
        assert "ConstraintDescription" in parameter
        assert "Default" not in parameter or re.fullmatch(pattern, parameter["Default"])


def test_every_parameter_has_its_group():
    groups = SAM["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(SAM["Parameters"])


def test_samconfig_gives_parameters_that_exist():
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert {"default", "dev", "prod"} <= set(config)
    for environment in set(config) - {"version"}:
        overrides = config[environment].get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
        for name, value in (override.split("=", 1) for override in overrides):
            parameter = SAM["Parameters"][name]
            assert value in [str(each) for each in parameter.get("AllowedValues", [value])], name
            assert re.fullmatch(parameter.get("AllowedPattern", ".*"), value), name


def test_few_findings_of_scanners_are_suppressed_and_each_says_why():
    skipped = [
        each
        for resource in SAM["Resources"].values()
        for each in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]
    assert len(skipped) <= len(FUNCTIONS) + 1
    assert all(len(each["comment"]) > 20 for each in skipped)


def test_conditions_exist_and_are_used():
    """cfn-lint sees only half of this in loops."""
    document = expand(SAM, boto3.Session(region_name="eu-west-1"), {})
    conditions = set(document["Conditions"])
    assert {each["Condition"] for each in document["Resources"].values() if "Condition" in each} <= conditions
    text = json.dumps({key: value for key, value in document.items() if key != "Metadata"})
    assert [name for name in sorted(conditions) if text.count(f'"{name}"') < 2] == []
