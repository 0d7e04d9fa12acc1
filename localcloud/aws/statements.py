"""The statements of template.yaml: the actions and resources of each role, and the call of the code that needs them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from botocore import xform_name

from localcloud.aws.expand import read


@dataclass(frozen=True)
class Statement:
    """One statement of an identity policy of a role, by the role's logical id."""

    role: str
    policy: str
    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: str = ""


#: Actions that no call is named after, with the code that needs them.
_NEEDED_BY = (
    {
        "rds-db:connect": "login with a token, `engines/*/connection.py`",
        "lambda:InvokeFunction": "`context.invoke` of another function, `onboarding/flow.py`, `audit/flow.py` and "
        "`migration/flow.py`; `_start` of OnboardFunction itself, `onboarding/reconcile.py`; `handler`, "
        "`functions/events/app.py`; `rotate_secret`, which asks in the caller's name, `aws/secrets/schedules.py`",
        "secretsmanager:TagResource": "`Tags` of `create_secret`, `aws/secrets/schedules.py`",
        "logs:CreateLogStream": "Lambda in the function's name, for the function's log",
        "logs:PutLogEvents": "Lambda in the function's name, for the function's log",
        "lambda:CheckpointDurableExecution": "`context.step` and all other results that an execution keeps",
        "lambda:GetDurableExecutionState": "the SDK of durable functions, for executions with many steps",
        "s3:ListBucket": "`list_objects_v2`, `audit/store.py`",
        "sqs:SendMessage": "Lambda in the function's name, for events that the function failed to handle",
        "sts:SetSourceIdentity": "`SourceIdentity` of `assume_role`, `aws/scoped_credentials.py`",
        "kms:Decrypt": "`get_secret_value` of a secret that has a key of the customer's, `aws/secrets/client.py`",
    }
    | dict.fromkeys(
        (
            "kms:DescribeKey",
            "kms:Encrypt",
            "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
        ),
        "DynamoDB, Lambda and SQS, which use the stack's key in the function's name",
    )
    | dict.fromkeys(
        (
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ),
        "Lambda in the function's name, for functions in the VPC",
    )
)
_PSEUDO = re.compile(r"\$\{AWS::(\w+)\}")


def statements(template: Path) -> list[Statement]:
    """Return all statements of the roles' own policies, in the order of the template."""
    resources: Mapping[str, Any] = read(template)["Resources"]
    return [statement for key, resource in resources.items() for statement in _of(key, resource, resources)]


@cache
def calls(code: Path) -> Mapping[str, list[str]]:
    """Return the places in the functions' code that call each method of an AWS client: name → `function` in `file`.

    The command and the doctor are left out: people run them, with rights of their own.
    """
    places_by_name: dict[str, list[str]] = {}
    for path in sorted(code.rglob("*.py")):
        if path.relative_to(code).parts[0] in {"command", "doctor"}:
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    name = node.func.attr
                    if name == "get_paginator" and node.args and isinstance(node.args[0], ast.Constant):
                        name = str(node.args[0].value)
                    if name.endswith("_object") and any(given.arg == "VersionId" for given in node.keywords):
                        name += "_version"  # S3's actions on a version are others than those on an object
                    places_by_name.setdefault(name, []).append(f"`{function.name}`, `{path.relative_to(code)}`")
    return {name: list(dict.fromkeys(places)) for name, places in places_by_name.items()}


def needed_by(action: str, known: Mapping[str, list[str]]) -> str | None:
    """Return the call that needs an action; None if there is none.

    :param known: the result of `calls`.
    """
    if action in _NEEDED_BY:
        return _NEEDED_BY[action]
    places = known.get(xform_name(action.partition(":")[2]))
    return None if not places else "; ".join(places)


@dataclass(frozen=True)
class Invokers:
    """The callers who may invoke a function by an alias, as its resource policy says."""

    function: str
    alias: str  # empty for the function itself
    principals: str


def invokers(template: Path) -> list[Invokers]:
    """Return the callers of each function and each alias, in the order of the template."""
    resources: Mapping[str, Any] = read(template)["Resources"]
    result = []
    for resource in resources.values():
        if resource["Type"] != "AWS::Lambda::ResourcePolicy":
            continue
        properties = resource["Properties"]
        function, alias = _invoked(_text(properties["ResourceArn"]), properties["ResourceArn"], resources)
        result.append(Invokers(function, alias, _principals(properties["PolicyDocument"]["Statement"])))
    return result


def _invoked(text: str, reference: Mapping[str, Any], resources: Mapping[str, Any]) -> tuple[str, str]:
    name = str(reference.get("Ref", ""))
    if name.endswith(".Alias"):
        function = name.removesuffix(".Alias")
        return function, resources[function]["Properties"]["AutoPublishAlias"]
    if name:
        alias = resources[name]["Properties"]
        return alias["FunctionName"]["Ref"], alias["Name"]
    return text.removesuffix(".Arn"), ""


def _principals(statements: list[Mapping[str, Any]]) -> str:
    """Return the principals that the first Deny leaves out, or that an Allow lets in."""
    for statement in statements:
        if statement["Effect"] == "Allow":
            condition = _plain(next(iter(statement["Condition"].values())))
            sources = next(iter(condition.values()))
            named = ", ".join(f"`{each}`" for each in (sources if isinstance(sources, list) else [sources]))
            return f"{statement['Principal']['Service']} for {named}"
    condition = statements[0].get("Condition")
    if condition is None:
        return "nobody"
    principal = next(iter(condition.values()))["aws:PrincipalArn"]
    return f"`{_text(principal)}`"


def as_markdown(template: Path, code: Path, accepted: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/permissions.md.

    :param accepted: for each function that has aliases: for each alias the sets of fields that it accepts, or None.
    """
    known = calls(code)
    lines = [
        "# Permissions",
        "",
        "Every statement of `template.yaml`, role by role, and the call that needs each action. Made by",
        "`make permissions`, and tested to be current. `…` stands for partition, region and account of the stack.",
        "Roles also have AWS's managed policy for traces.",
        "The integration tests run with exactly these permissions, and fail if one is missing or not used.",
        "",
        "## Who may invoke",
        "",
        "Resource policies deny everybody else, administrators and services too, whatever permission somebody adds. By",
        "an alias a function accepts requests with these fields only; a version or `$LATEST` accepts nothing.",
        "",
        "| function | alias | who | accepts |",
        "|---|---|---|---|",
    ]
    for each in invokers(template):
        if each.principals == "nobody":
            continue
        fields = accepted.get(each.function, {}).get(each.alias)
        requests = (
            "all of its requests" if fields is None else "; ".join(_fields(request_fields) for request_fields in fields)
        )
        lines.append(f"| {each.function} | {each.alias} | {each.principals} | {requests} |")
    role = ""
    every_statement = statements(template)
    roles = list(dict.fromkeys(statement.role for statement in every_statement))
    for statement in sorted(every_statement, key=lambda statement: roles.index(statement.role)):
        if statement.role != role:
            role = statement.role
            lines += ["", f"## {role}", "", "| statement | action | on | if | needed by |", "|---|---|---|---|---|"]
        where = "<br>".join(f"`{each}`" for each in statement.resources)
        for action in statement.actions:
            why = needed_by(action, known) if statement.effect == "Allow" else "(denied)"
            condition = f"`{statement.condition}`" if statement.condition else ""
            lines.append(f"| {statement.sid} | {action} | {where} | {condition} | {why or 'NOTHING'} |")
    return "\n".join(lines) + "\n"


def _fields(names: Iterable[str]) -> str:
    return f"`{{{', '.join(sorted(names))}}}`"


def _of(key: str, resource: Mapping[str, Any], resources: Mapping[str, Any]) -> Iterator[Statement]:
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::Serverless::Function":
        for number, document in enumerate(properties.get("Policies", [])):
            yield from _in(f"{key}Role", f"{key}RolePolicy{number}", document)
    elif resource["Type"] == "AWS::IAM::Role":
        for policy in properties.get("Policies", []):
            yield from _in(key, policy["PolicyName"], policy["PolicyDocument"])
        for name, managed in resources.items():
            if managed["Type"] == "AWS::IAM::ManagedPolicy" and f"{{'Ref': '{name}'}}" in str(properties):
                yield from _in(key, name, managed["Properties"]["PolicyDocument"])
    elif resource["Type"] == "AWS::IAM::Policy":
        for role in properties["Roles"]:
            yield from _in(role["Ref"], properties["PolicyName"], properties["PolicyDocument"])


def _in(role: str, policy: str, document: Mapping[str, Any]) -> Iterator[Statement]:
    for statement in document["Statement"]:
        condition = statement.get("Condition")
        yield Statement(
            role,
            policy,
            statement.get("Sid", ""),
            statement["Effect"],
            tuple(_list(statement["Action"])),
            tuple(_text(each) for each in _list(statement["Resource"])),
            "" if condition is None else json.dumps(_plain(condition), ensure_ascii=False),
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _text(value) if _is_function(value) else {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else _short(str(value))


def _is_function(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


def _text(value: Any) -> str:
    """Write a value of the template as text."""
    if not isinstance(value, dict):
        return _short(str(value))
    name, argument = next(iter(value.items()))
    if name == "Fn::GetAtt":
        return argument if isinstance(argument, str) else ".".join(argument)
    if name == "Fn::If":
        return " or ".join(_text(each) for each in argument[1:])
    return _short(argument) if name == "Fn::Sub" and isinstance(argument, str) else str(argument)


def _short(text: str) -> str:
    text = re.sub(
        r"arn:\$\{AWS::Partition\}:([a-z0-9-]+):(?:\$\{AWS::Region\})?:\$\{AWS::AccountId\}:", r"…:\1:…:", text
    )
    return _PSEUDO.sub("…", text)
