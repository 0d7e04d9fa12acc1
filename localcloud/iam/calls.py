"""What an API call needs to be allowed: its actions, the resources it touches, and what conditions may ask about.

Only calls that the project makes, and those that its attack tests try, are listed; any other is refused to everybody.
Sources: the Service Authorization Reference of each service. S3, Lambda and Security Hub, which speak REST, are in
`calls_rest`, RDS is in `calls_rds`, DynamoDB in `calls_dynamodb`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.secretsmanager.models import secretsmanager_backends

from localcloud.core.web import Request
from localcloud.iam.judge import Policy

Context = Mapping[str, str | list[str]]
Parameters = Mapping[str, Any]


class UnknownCall(Exception):
    """Nobody has said yet what this call needs, so nobody may make it."""


@dataclass(frozen=True)
class Place:
    """Where a call is made: what ARNs are built of."""

    region: str
    account: str

    def arn(self, service: str, rest: str) -> str:
        """Return the ARN of a regional resource; IAM's have no region."""
        return f"arn:aws:{service}:{'' if service == 'iam' else self.region}:{self.account}:{rest}"


@dataclass(frozen=True)
class Need:
    """One permission that a call needs. A call is allowed when all that it needs are."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    resource_policy: Policy | None = None


#: Makes the needs of one operation from its parameters.
Rule = Callable[[Place, str, Parameters], Iterable[Need]]


def needs(service: str, request: Request, place: Place) -> list[Need]:
    """Return what a call of the query or JSON protocols needs; nothing for a call that everybody may make.

    :raises UnknownCall: it is not listed.
    """
    operation, parameters = read_call(service, request)
    rule = _RULES.get(f"{service}:{operation}")
    if rule is None:
        raise UnknownCall(f"{service}:{operation}")
    return list(rule(place, f"{service}:{operation}", parameters))


def read_call(service: str, request: Request) -> tuple[str, Parameters]:
    """Return operation and parameters; what could be read in two ways is no known call: moto might read the other."""
    targets = [value for name, value in request.headers if name.lower() == "x-amz-target"]
    if service in _JSON:
        if len(targets) != 1 or request.query:
            raise UnknownCall(f"{service}: not one X-Amz-Target")
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            raise UnknownCall(f"{service}: no JSON") from None
        return targets[0].rpartition(".")[2], body if isinstance(body, dict) else {}
    pairs = parse_qsl(request.query, keep_blank_values=True)
    pairs += parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    if targets or len(form) < len(pairs) or "Action" not in form:
        raise UnknownCall(f"{service}: not one Action")
    return form["Action"], form


_JSON = {"dynamodb", "secretsmanager", "events", "logs", "kms", "sqs"}


def tags_context(tags: Iterable[Mapping[str, str]] | None) -> dict[str, str | list[str]]:
    """Return the tags of a resource as conditions see them."""
    return {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags or []}


# --- rules ---


def _everything(_: Place, action: str, __: Parameters) -> Iterator[Need]:
    """For what knows no resources."""
    yield Need(action, "*")


def _nothing(*_: object) -> Iterator[Need]:
    """For what everybody may do, as AWS documents for sts:GetCallerIdentity."""
    return iter(())


def _named(arn_service: str, key: str, pattern: str) -> Rule:
    """For what touches the one resource that `key` names, by its name or its ARN; all of its kind where none is."""

    def rule(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
        name = str(parameters.get(key) or "*")
        name = name.rpartition("/")[2] if name.startswith("http") else name  # the URL of a queue
        yield Need(action, name if name.startswith("arn:") else place.arn(arn_service, pattern.format(name)))

    return rule


def _role(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    name = parameters["RoleName"]
    role = next((r for r in _iam(place).roles.values() if r.name == name), None)
    context: dict[str, str | list[str]] = {}
    if role is not None:
        context |= tags_context(role.tags)
        if role.permissions_boundary_arn:
            context["iam:PermissionsBoundary"] = role.permissions_boundary_arn
    if "PolicyArn" in parameters:
        context["iam:PolicyARN"] = parameters["PolicyArn"]
    if "PermissionsBoundary" in parameters:
        context["iam:PermissionsBoundary"] = parameters["PermissionsBoundary"]
    path = str(parameters.get("Path", "/"))
    yield Need(action, place.arn("iam", f"role{path}{name}") if role is None else role.arn, context)


def _user_or_group(kind: str) -> Rule:
    def rule(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
        name = parameters.get(f"{kind.title()}Name", "*")
        context: Context = {"iam:PolicyARN": parameters["PolicyArn"]} if "PolicyArn" in parameters else {}
        yield Need(action, place.arn("iam", f"{kind}{parameters.get('Path', '/')}{name}"), context)

    return rule


def _new_policy(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    yield Need(action, place.arn("iam", f"policy{parameters.get('Path', '/')}{parameters['PolicyName']}"))


def _assume_role(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    arn = str(parameters["RoleArn"])
    role = next((r for r in _iam(place).roles.values() if r.arn == arn), None)
    trust = None if role is None else Policy("trust", role.assume_role_policy_document)
    context: dict[str, str | list[str]] = {"sts:RoleSessionName": str(parameters.get("RoleSessionName", ""))}
    tags = {parameters[key]: parameters[key.replace(".Key", ".Value")] for key in parameters if key.endswith(".Key")}
    context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    for key in ("SourceIdentity", "ExternalId"):
        if key in parameters:
            context[f"sts:{key}"] = parameters[key]
    yield Need(action, arn, context, trust)
    if "SourceIdentity" in parameters:
        yield Need("sts:SetSourceIdentity", arn, context, trust)
    if tags:
        yield Need("sts:TagSession", arn, context, trust)


def _log_stream(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    group, stream = parameters["logGroupName"], parameters["logStreamName"]
    yield Need(action, place.arn("logs", f"log-group:{group}:log-stream:{stream}"))


def _secret(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    asked = str(parameters.get("SecretId") or parameters.get("Name"))
    held = secretsmanager_backends[place.account][place.region].secrets.values()
    secret = next((s for s in held if asked in (s.name, s.arn, s.arn[:-7])), None)
    tags: list[Mapping[str, str]] = parameters.get("Tags") or []
    context: dict[str, str | list[str]] = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
    keys = [*(tag["Key"] for tag in tags), *(parameters.get("TagKeys") or [])]
    if keys:
        context["aws:TagKeys"] = keys
    if secret is None:
        arn = asked if asked.startswith("arn:") else place.arn("secretsmanager", f"secret:{asked}")
        yield Need(action, arn, context)
        if tags:
            yield Need("secretsmanager:TagResource", arn, context)
        return
    context |= tags_context(secret.tags)
    if "ForceDeleteWithoutRecovery" in parameters:
        context["secretsmanager:ForceDeleteWithoutRecovery"] = str(parameters["ForceDeleteWithoutRecovery"]).lower()
    if "RecoveryWindowInDays" in parameters:
        context["secretsmanager:RecoveryWindowInDays"] = str(parameters["RecoveryWindowInDays"])
    if "RotationLambdaARN" in parameters:
        context["secretsmanager:RotationLambdaARN"] = parameters["RotationLambdaARN"]
    if getattr(secret, "rotation_lambda_arn", None):
        context["secretsmanager:resource/AllowRotationLambdaArn"] = secret.rotation_lambda_arn
    yield Need(action, secret.arn, context)
    function = parameters.get("RotationLambdaARN") or getattr(secret, "rotation_lambda_arn", None)
    if action == "secretsmanager:RotateSecret" and function:
        yield Need("lambda:InvokeFunction", str(function), {"aws:ViaAWSService": "true"})
    # The default key's own policy lets everybody in the account use it through Secrets Manager; another key's does not.
    key_id = secret.kms_key_id or ""
    if action in _DECRYPTING and key_id and not key_id.endswith("alias/aws/secretsmanager"):
        via: Context = {"kms:ViaService": f"secretsmanager.{place.region}.amazonaws.com"}
        yield key_need(place, "kms:Decrypt", key_id, via)
        if action != "secretsmanager:GetSecretValue":
            yield key_need(place, "kms:GenerateDataKey", key_id, via)


def _secrets(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    """For many secrets: the call itself, and to read each; what filters find, too, for which they must be listed."""
    yield Need(action, "*")
    asked = list(parameters.get("SecretIdList") or [])
    if not asked:
        yield Need("secretsmanager:ListSecrets", "*")
        asked = [secret.arn for secret in secretsmanager_backends[place.account][place.region].secrets.values()]
    for each in asked:
        yield from _secret(place, "secretsmanager:GetSecretValue", {"SecretId": each})


def _key(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    yield key_need(place, action, str(parameters.get("KeyId", "*")), {})


def key_need(place: Place, action: str, key: str, context: Context) -> Need:
    """Return what a call needs of a key, which can be used only as its own policy says.

    :param key: its id or ARN. A key that moto doesn't know has the usual policy, which leaves it to IAM.
    """
    name = key.rpartition("/")[2]
    known = kms_backends[place.account][place.region].keys.get(name)
    arn = key if key.startswith("arn:") else place.arn("kms", f"key/{key}")
    if known is not None:
        return Need(action, arn, context, Policy(f"key/{name}", known.policy))
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{place.account}:root"}, "Action": "kms:*"}
    usual = Policy("key", {"Version": "2012-10-17", "Statement": [statement | {"Resource": "*"}]})
    return Need(action, arn, context, usual)


_DECRYPTING = {"secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecret"}


def _put_events(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    for entry in parameters.get("Entries", []):
        bus = str(entry.get("EventBusName") or "default")
        arn = bus if bus.startswith("arn:") else place.arn("events", f"event-bus/{bus}")
        yield Need(action, arn, {"events:source": [entry["Source"]], "events:detail-type": [entry["DetailType"]]})


def _iam(place: Place) -> Any:
    return iam_backends[place.account]["aws"]


def _rules() -> Iterator[tuple[str, Rule]]:
    def each(service: str, operations: str, rule: Rule) -> Iterator[tuple[str, Rule]]:
        return ((f"{service}:{operation}", rule) for operation in operations.split())

    yield from each("sts", "GetCallerIdentity", _nothing)
    yield from each("sts", "AssumeRole", _assume_role)

    yield from each("iam", "ListRoles ListPolicies ListUsers ListGroups GetAccountSummary", _everything)
    yield from each("iam", "GetAccountAuthorizationDetails", _everything)
    yield from each("iam", "CreateRole GetRole UpdateRole DeleteRole UpdateAssumeRolePolicy TagRole UntagRole", _role)
    yield from each("iam", "ListRoleTags PutRolePolicy GetRolePolicy DeleteRolePolicy ListRolePolicies", _role)
    yield from each("iam", "AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies", _role)
    yield from each("iam", "PutRolePermissionsBoundary DeleteRolePermissionsBoundary", _role)
    yield from each("iam", "CreatePolicy", _new_policy)
    policies = "GetPolicy DeletePolicy CreatePolicyVersion GetPolicyVersion DeletePolicyVersion ListPolicyVersions"
    policies += " SetDefaultPolicyVersion ListEntitiesForPolicy TagPolicy UntagPolicy"
    yield from each("iam", policies, _named("iam", "PolicyArn", "policy/{}"))
    users = "CreateUser GetUser DeleteUser CreateAccessKey UpdateAccessKey DeleteAccessKey ListAccessKeys PutUserPolicy"
    users += " DeleteUserPolicy AttachUserPolicy DetachUserPolicy ListAttachedUserPolicies ListUserPolicies"
    yield from each("iam", users, _user_or_group("user"))
    groups = "CreateGroup DeleteGroup PutGroupPolicy AttachGroupPolicy AddUserToGroup RemoveUserFromGroup"
    yield from each("iam", groups, _user_or_group("group"))

    yield from each("secretsmanager", "ListSecrets GetRandomPassword", _everything)
    yield from each("secretsmanager", "BatchGetSecretValue", _secrets)
    secrets = "CreateSecret DescribeSecret GetSecretValue PutSecretValue UpdateSecret DeleteSecret RotateSecret"
    secrets += " UpdateSecretVersionStage ListSecretVersionIds TagResource UntagResource GetResourcePolicy"
    yield from each("secretsmanager", secrets + " PutResourcePolicy CancelRotateSecret RestoreSecret", _secret)

    yield from each("events", "PutEvents", _put_events)
    rules = "PutRule DescribeRule DeleteRule EnableRule DisableRule ListRules"
    yield from each("events", rules, _named("events", "Name", "rule/{}"))
    yield from each("events", "PutTargets RemoveTargets ListTargetsByRule", _named("events", "Rule", "rule/{}"))

    of_logs = "CreateLogGroup DeleteLogGroup DescribeLogGroups DescribeLogStreams FilterLogEvents PutRetentionPolicy"
    yield from each("logs", of_logs, _named("logs", "logGroupName", "log-group:{}"))
    yield from each("logs", "CreateLogStream PutLogEvents", _log_stream)

    stacks = "CreateStack UpdateStack DeleteStack DescribeStacks DescribeStackResources DescribeStackEvents GetTemplate"
    yield from each(
        "cloudformation", stacks + " ListStackResources", _named("cloudformation", "StackName", "stack/{}/*")
    )
    yield from each("cloudformation", "ListStacks", _everything)

    yield from each("kms", "CreateKey ListKeys ListAliases", _everything)
    keys = "DescribeKey Decrypt Encrypt GenerateDataKey GetKeyPolicy PutKeyPolicy ScheduleKeyDeletion DisableKey"
    yield from each("kms", keys + " EnableKey CreateGrant ListGrants DisableKeyRotation", _key)
    yield from each("ec2", "DescribeSubnets DescribeVpcs DescribeSecurityGroups", _everything)
    yield from each("sqs", "CreateQueue GetQueueUrl", _named("sqs", "QueueName", "{}"))
    yield from each("sns", "CreateTopic", _named("sns", "Name", "{}"))
    queues = "SetQueueAttributes DeleteQueue GetQueueAttributes ReceiveMessage SendMessage DeleteMessage PurgeQueue"
    yield from each("sqs", queues, _named("sqs", "QueueUrl", "{}"))
    yield from each("sqs", "CreateQueue", _named("sqs", "QueueName", "{}"))
    yield from each("sqs", "ListQueues", _everything)
    yield from each("sns", "Publish GetTopicAttributes Subscribe DeleteTopic", _named("sns", "TopicArn", "{}"))
    yield from each("sns", "ListTopics", _everything)


_RULES: dict[str, Rule] = dict(_rules())
