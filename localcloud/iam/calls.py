"""Needs of API calls: the actions, the resources they touch, and the context that conditions may ask about.

The calls are listed in `actions.toml`; any other call is refused to every caller. Rules that make the needs of S3,
Lambda and Security Hub, which speak REST, are in `calls_rest`, of RDS in `calls_rds`, of DynamoDB in `calls_dynamodb`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.secretsmanager.models import secretsmanager_backends

from localcloud.core.web import Request
from localcloud.iam.actions import rules
from localcloud.iam.judge import Policy

Context = Mapping[str, str | list[str]]
Parameters = Mapping[str, Any]


class UnknownCall(Exception):
    """A call that isn't listed, so that no caller may make it."""


@dataclass(frozen=True)
class Place:
    """The region and account of a call, which ARNs are built of."""

    region: str
    account: str

    def arn(self, service: str, rest: str) -> str:
        """Return the ARN of a regional resource; IAM's have no region."""
        return f"arn:aws:{service}:{'' if service == 'iam' else self.region}:{self.account}:{rest}"


@dataclass(frozen=True)
class Need:
    """A permission that a call needs. A call is allowed if all its needs are allowed."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    resource_policy: Policy | None = None


#: Makes the needs of one operation from its parameters.
Rule = Callable[[Place, str, Parameters], Iterable[Need]]


def needs(service: str, request: Request, place: Place) -> list[Need]:
    """Return the needs of a call of the query or JSON protocols; none for a call that every caller may make.

    :raises UnknownCall: it is not listed.
    """
    operation, parameters = read_call(service, request)
    rule = _RULES.get(f"{service}:{operation}")
    if rule is None:
        raise UnknownCall(f"{service}:{operation}")
    return list(rule(place, f"{service}:{operation}", parameters))


def read_call(service: str, request: Request) -> tuple[str, Parameters]:
    """Return operation and parameters; an ambiguous request is an unknown call, as moto might read it otherwise."""
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


def all_resources(_: Place, action: str, __: Parameters) -> Iterator[Need]:
    """Need the action on every resource, since it has no resources of its own."""
    yield Need(action, "*")


def _no_permission(*_: object) -> Iterator[Need]:
    """Need nothing, as AWS documents for sts:GetCallerIdentity."""
    return iter(())


def _named(service: str, parameter: str, resource: str) -> Rule:
    """Need the action on the resource that a parameter names, by name or ARN; on all of its kind without a name."""

    def rule(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
        name = str(parameters.get(parameter) or "*")
        name = name.rpartition("/")[2] if name.startswith("http") else name  # the URL of a queue
        yield Need(action, name if name.startswith("arn:") else place.arn(service, resource.format(name)))

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
    secret_id = str(parameters.get("SecretId") or parameters.get("Name"))
    stored_secrets = secretsmanager_backends[place.account][place.region].secrets.values()
    secret = next((s for s in stored_secrets if secret_id in (s.name, s.arn, s.arn[:-7])), None)
    tags: list[Mapping[str, str]] = parameters.get("Tags") or []
    context: dict[str, str | list[str]] = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
    keys = [*(tag["Key"] for tag in tags), *(parameters.get("TagKeys") or [])]
    if keys:
        context["aws:TagKeys"] = keys
    if secret is None:
        arn = secret_id if secret_id.startswith("arn:") else place.arn("secretsmanager", f"secret:{secret_id}")
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
    # The default key's own policy lets the whole account use it through Secrets Manager; another key's does not.
    key_id = secret.kms_key_id or ""
    if action in _DECRYPTING and key_id and not key_id.endswith("alias/aws/secretsmanager"):
        via: Context = {"kms:ViaService": f"secretsmanager.{place.region}.amazonaws.com"}
        yield key_need(place, "kms:Decrypt", key_id, via)
        if action != "secretsmanager:GetSecretValue":
            yield key_need(place, "kms:GenerateDataKey", key_id, via)


def _secrets(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    """Need the call itself and the reading of each secret; with filters, the listing of all secrets too."""
    yield Need(action, "*")
    secret_ids = list(parameters.get("SecretIdList") or [])
    if not secret_ids:
        yield Need("secretsmanager:ListSecrets", "*")
        secret_ids = [secret.arn for secret in secretsmanager_backends[place.account][place.region].secrets.values()]
    for secret_id in secret_ids:
        yield from _secret(place, "secretsmanager:GetSecretValue", {"SecretId": secret_id})


def _key(place: Place, action: str, parameters: Parameters) -> Iterator[Need]:
    yield key_need(place, action, str(parameters.get("KeyId", "*")), {})


def key_need(place: Place, action: str, key: str, context: Context) -> Need:
    """Return the need to use a key, which its own policy has to allow.

    :param key: its id or ARN. A key that moto doesn't know has the usual policy, which leaves the decision to IAM.
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


def _constant(rule: Rule) -> Callable[[], Rule]:
    return lambda: rule


_SERVICES = ("sts", "iam", "secretsmanager", "events", "logs", "cloudformation", "kms", "ec2", "sqs", "sns")


def _rules_of(service: str) -> dict[str, Rule]:
    makers: dict[str, Callable[..., Rule]] = {
        "all_resources": _constant(all_resources),
        "no_permission": _constant(_no_permission),
        "named": functools.partial(_named, service),
        "role": _constant(_role),
        "user_or_group": _user_or_group,
        "new_policy": _constant(_new_policy),
        "assume_role": _constant(_assume_role),
        "log_stream": _constant(_log_stream),
        "secret": _constant(_secret),
        "secrets": _constant(_secrets),
        "key": _constant(_key),
        "put_events": _constant(_put_events),
    }
    return {f"{service}:{call}": rule for call, rule in rules(service, makers).items()}


_RULES: dict[str, Rule] = {call: rule for service in _SERVICES for call, rule in _rules_of(service).items()}
