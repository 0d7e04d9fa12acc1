"""Deploys template.yaml: AWS's translator expands it, moto's CloudFormation creates most, this module the rest."""

from __future__ import annotations

import copy
import json
import logging
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.awslambda.utils import get_backend as lambda_backend
from moto.cloudformation.models import cloudformation_backends
from moto.cloudformation.parsing import clean_json, get_model_map

from localcloud.aws.expand import TemplateRefused, expand, read
from localcloud.iam.judge import Policy
from localcloud.lambda_.emulators import DurableConfig, Function
from localcloud.lambda_.function_policies import as_statement
from localcloud.lambda_.routes import API_ID, Jwt, Route

logger = logging.getLogger(__name__)

_FUNCTION = "AWS::Lambda::Function"
_SERVERLESS_FUNCTION = "AWS::Serverless::Function"
_HTTP_API = "AWS::ApiGatewayV2::Api"
_BUCKET = "AWS::S3::Bucket"
_BUCKET_POLICY = "AWS::S3::BucketPolicy"
_TABLE = "AWS::DynamoDB::Table"
_ROLE = "AWS::IAM::Role"
# moto's models of these fail or do nothing; they are read from the expanded template here.
_OURS = {"AWS::Lambda::Alias", "AWS::Lambda::Version"}
_PERMISSION = "AWS::Lambda::Permission"
_RESOURCE_POLICY = "AWS::Lambda::ResourcePolicy"
_AUTHORIZER = "x-amazon-apigateway-authorizer"
_METHODS = {"get", "post", "put", "delete", "patch", "head", "options", "x-amazon-apigateway-any-method"}


@dataclass(frozen=True)
class Deployment:
    """The result of a deployment."""

    functions: tuple[Function, ...]
    routes: tuple[Route, ...]
    outputs: Mapping[str, str]
    left_out: tuple[str, ...] = field(default=())
    resource_policies: Mapping[str, Policy] = field(default_factory=dict)  # by the ARN of a function or an alias


class Template:
    """A SAM template with the physical names of its functions, before it is deployed."""

    def __init__(self, path: Path, region: str, account: str, stack: str = "rdsiam") -> None:
        self._directory = path.resolve().parent
        self._sam: dict[str, Any] = read(path)
        self._region = region
        self._account = account
        self._stack = stack
        self._names = {
            logical_id: f"{stack}-{logical_id}-{_suffix()}"
            for logical_id, resource in self._sam["Resources"].items()
            if resource["Type"] == _SERVERLESS_FUNCTION
        }

    @property
    def durable_configs(self) -> dict[str, Mapping[str, Any] | None]:
        """The DurableConfig of each function by its physical name; None for functions that aren't durable."""
        resources = self._sam["Resources"]
        return {name: resources[key]["Properties"].get("DurableConfig") for key, name in self._names.items()}

    def deploy(
        self,
        session: boto3.Session,
        endpoint: str,
        api_url: str,
        defaults: Mapping[str, str],
        given_parameters: Mapping[str, str],
    ) -> Deployment:
        """Create the stack.

        :param session: a session of an administrator.
        :param api_url: address of the HTTP API.
        :param defaults: parameters that the cloud sets if the template has them.
        :param given_parameters: parameters of the command line, which take precedence.
        :raises TemplateRefused: a route has no authorizer, a parameter is unknown, or the stack can't be created.
        """
        declared = self._sam.get("Parameters", {})
        if unknown := sorted(set(given_parameters) - set(declared)):
            raise TemplateRefused(f"the template has no parameter {', '.join(unknown)}")
        parameters = {**defaults, **given_parameters}
        given = {name: value for name, value in parameters.items() if name in declared}
        expanded = expand(self._sam, session, given)
        bodies = self._bodies(expanded)
        left_out = self._reduce(expanded)
        outputs = expanded.pop("Outputs", {})
        stack_outputs = {
            key: value for key, value in outputs.items() if not _mentions(value, _apis(expanded, left_out))
        }
        expanded["Outputs"] = stack_outputs
        cloudformation = session.client("cloudformation", endpoint_url=endpoint)
        cloudformation.create_stack(
            StackName=self._stack,
            TemplateBody=json.dumps(_without(expanded, left_out)),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        stack = cloudformation.describe_stacks(StackName=self._stack)["Stacks"][0]
        if stack["StackStatus"] != "CREATE_COMPLETE":
            raise TemplateRefused(f"the stack ended as {stack['StackStatus']}")
        output_values = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        output_values |= dict.fromkeys(set(outputs) - set(stack_outputs), api_url)
        self._finish(expanded, session, endpoint)
        if left_out:
            logger.info("not made by moto: %s", ", ".join(f"{key} ({kind})" for key, kind in sorted(left_out.items())))
        return Deployment(
            tuple(self._function(expanded, key) for key in self._names),
            tuple(route for body in bodies for route in self._routes(body)),
            output_values,
            tuple(sorted(left_out)),
            self._resource_policies(expanded),
        )

    def _reduce(self, expanded: dict[str, Any]) -> dict[str, str]:
        """Name functions, resolve references to resources that moto doesn't create, and return those resources."""
        resources = expanded["Resources"]
        left_out = {
            key: resource["Type"]
            for key, resource in resources.items()
            if resource["Type"] in _OURS or resource["Type"] not in get_model_map()
        }
        for logical_id, name in self._names.items():
            resources[logical_id]["Properties"]["FunctionName"] = name
        references: dict[str, str] = {}
        for key, kind in left_out.items():
            references[key] = API_ID if kind == _HTTP_API else key.lower()
            if kind == "AWS::Lambda::Alias":
                properties = resources[key]["Properties"]
                references[key] = f"{self._arn(properties['FunctionName']['Ref'])}:{properties['Name']}"
        created = {key: value for key, value in resources.items() if key not in left_out}
        for resource in created.values():
            # moto looks a function up by its name, and a permission names an alias.
            if resource["Type"] == _PERMISSION:
                target = references.get(resource["Properties"]["FunctionName"].get("Ref", ""))
                resource["Metadata"] = {"Target": target}
                if target is not None:
                    resource["Properties"]["FunctionName"] = target.split(":")[6]
        policies = {key: resources[key] for key, kind in left_out.items() if kind == _RESOURCE_POLICY}
        expanded["Resources"] = (
            _resolved(created, references) | {key: resources[key] for key in left_out} | _resolved(policies, references)
        )
        return left_out

    def _finish(self, expanded: Mapping[str, Any], session: boto3.Session, endpoint: str) -> None:
        """Set the properties that moto's CloudFormation ignores, now that every reference is known."""
        stack = cloudformation_backends[self._account][self._region].get_stack(self._stack).resource_map
        s3, iam = session.client("s3", endpoint_url=endpoint), session.client("iam", endpoint_url=endpoint)
        dynamodb = session.client("dynamodb", endpoint_url=endpoint)
        kinds = (_ROLE, _BUCKET, _TABLE, _BUCKET_POLICY)  # policies of buckets last, as they may deny the steps before
        resources = [item for kind in kinds for item in expanded["Resources"].items() if item[1]["Type"] == kind]
        for logical_id, resource in resources:
            properties = clean_json(copy.deepcopy(resource.get("Properties", {})), stack)
            if resource["Type"] == _BUCKET_POLICY:
                s3.put_bucket_policy(Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"]))
            elif resource["Type"] == _TABLE:
                if policy := properties.get("ResourcePolicy"):
                    dynamodb.put_resource_policy(
                        ResourceArn=stack[logical_id].table_arn, Policy=json.dumps(policy["PolicyDocument"])
                    )
            elif resource["Type"] == _BUCKET:
                if versioning := properties.get("VersioningConfiguration"):
                    s3.put_bucket_versioning(Bucket=stack[logical_id].name, VersioningConfiguration=versioning)
                if "EventBridgeConfiguration" in properties.get("NotificationConfiguration", {}):
                    s3.put_bucket_notification_configuration(
                        Bucket=stack[logical_id].name, NotificationConfiguration={"EventBridgeConfiguration": {}}
                    )
            elif resource["Type"] == _ROLE:
                # AWS: AWS::NoValue takes the element out of a list. moto: leaves None there.
                for arn in filter(None, properties.get("ManagedPolicyArns", [])):
                    iam.attach_role_policy(RoleName=stack[logical_id].name, PolicyArn=arn)

    def _resource_policies(self, expanded: Mapping[str, Any]) -> dict[str, Policy]:
        """Return the policies of functions and aliases: a ResourcePolicy, or else the statements of all Permissions."""
        stack = cloudformation_backends[self._account][self._region].get_stack(self._stack).resource_map
        statements: dict[str, list[dict[str, Any]]] = {}
        whole: dict[str, Policy] = {}
        for logical_id, resource in expanded["Resources"].items():
            if resource["Type"] not in (_PERMISSION, _RESOURCE_POLICY):
                continue
            properties = clean_json(copy.deepcopy(resource["Properties"]), stack)
            if resource["Type"] == _RESOURCE_POLICY:
                whole[properties["ResourceArn"]] = Policy(logical_id, properties["PolicyDocument"])
                continue
            name = str(properties["FunctionName"]).rpartition(":")[2]
            arn = resource.get("Metadata", {}).get("Target") or (
                f"arn:aws:lambda:{self._region}:{self._account}:function:{name}"
            )
            statements.setdefault(arn, []).append(as_statement(logical_id, arn, properties))
        granted = {
            arn: Policy("Permissions", {"Version": "2012-10-17", "Statement": s}) for arn, s in statements.items()
        }
        return granted | whole

    def _bodies(self, expanded: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the OpenAPI documents of the HTTP APIs, each operation with a known authorizer."""
        bodies = []
        for logical_id, resource in expanded["Resources"].items():
            if resource["Type"] != _HTTP_API:
                continue
            body = copy.deepcopy(resource["Properties"].get("Body"))
            if not body:
                raise TemplateRefused(f"{logical_id} has no OpenAPI body")
            for path, method, operation in _operations(body, lambda _: True):
                security = operation.get("security") or []
                known = {"AWS_IAM", *(name for name, scheme in _schemes(body) if _AUTHORIZER in json.dumps(scheme))}
                if len(security) != 1 or len(security[0]) != 1 or not set(security[0]) <= known:
                    raise TemplateRefused(
                        f"{method.upper()} {path} has no authorizer that this cloud knows (known: AWS_IAM, JWT)"
                    )
            bodies.append(body)
        return bodies

    def _routes(self, body: Mapping[str, Any]) -> Iterator[Route]:
        """Yield the routes whose conditions hold, which the created stack knows."""
        stack = cloudformation_backends[self._account][self._region].get_stack(self._stack).resource_map
        schemes = dict(_schemes(body))
        for path, method, operation in _operations(body, lambda name: bool(stack.lazy_condition_map[name])):
            ((scheme, scopes),) = operation["security"][0].items()
            jwt = None
            if scheme != "AWS_IAM":
                configuration = clean_json(copy.deepcopy(schemes[scheme]), stack)[_AUTHORIZER]["jwtConfiguration"]
                scopes = clean_json(copy.deepcopy(scopes), stack)
                jwt = Jwt(configuration["issuer"], tuple(configuration["audience"]), tuple(scopes))
            verb = "ANY" if method.startswith("x-") else method.upper()
            yield Route(verb, path, self._integrated(path, method, operation), jwt)

    def _integrated(self, path: str, method: str, operation: Mapping[str, Any]) -> str:
        """Return the ARN of the function, or of its alias, that an operation calls."""
        uri = json.dumps(operation["x-amazon-apigateway-integration"]["uri"])
        for logical_id in self._names:
            if match := re.search(rf"\$\{{{logical_id}\.Arn\}}(:\w+)?", uri):
                return self._arn(logical_id) + (match[1] or "")
            if f"${{{logical_id}Alias" in uri:
                alias = uri.split(f"${{{logical_id}Alias")[1].split("}")[0]
                return f"{self._arn(logical_id)}:{alias}"
        raise TemplateRefused(f"{method.upper()} {path} calls no function of the template")

    def _arn(self, logical_id: str) -> str:
        return f"arn:aws:lambda:{self._region}:{self._account}:function:{self._names[logical_id]}"

    def _function(self, expanded: Mapping[str, Any], logical_id: str) -> Function:
        function = lambda_backend(self._account, self._region).get_function(self._names[logical_id])
        declared = self._sam["Resources"][logical_id]["Properties"]
        defaults = self._sam.get("Globals", {}).get("Function", {})
        durable = declared.get("DurableConfig")
        aliases = tuple(
            resource["Properties"]["Name"]
            for resource in expanded["Resources"].values()
            if resource["Type"] == "AWS::Lambda::Alias"
            and resource["Properties"]["FunctionName"] == {"Ref": logical_id}
        )
        layers = [*defaults.get("Layers", []), *declared.get("Layers", [])]
        return Function(
            logical_id=logical_id,
            name=function.function_name,
            arn=self._arn(logical_id),
            role_arn=function.role,
            handler=function.handler,
            code=self._directory / declared.get("CodeUri", defaults.get("CodeUri", ".")),
            layers=tuple(self._layer(layer) for layer in layers),
            environment={key: str(value) for key, value in function.environment_vars.items()},
            timeout=int(function.timeout),
            memory=int(function.memory_size),
            reserved=self._reserved(expanded["Resources"][logical_id]["Properties"]),
            aliases=aliases,
            durable=None if durable is None else DurableConfig(
                int(durable["ExecutionTimeout"]), int(durable.get("RetentionPeriodInDays", 14))
            ),
        )  # fmt: skip

    def _reserved(self, properties: Mapping[str, Any]) -> int | None:
        """Return the reserved concurrency, which may depend on a condition."""
        stack = cloudformation_backends[self._account][self._region].get_stack(self._stack).resource_map
        reserved = clean_json(copy.deepcopy(properties.get("ReservedConcurrentExecutions")), stack)
        return None if reserved is None else int(reserved)

    def _layer(self, reference: Mapping[str, str]) -> Path:
        resource = self._sam["Resources"].get(reference.get("Ref", ""))
        if resource is None:
            raise TemplateRefused(f"there is no layer {reference} in the template")
        return self._directory / str(resource["Properties"]["ContentUri"])


def _schemes(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from body.get("components", {}).get("securitySchemes", {}).items()


def _operations(body: Mapping[str, Any], holds: Callable[[str], bool]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield path, method and operation; a path with a condition only if the condition holds."""
    for path, item in body["paths"].items():
        operations = item
        if "Fn::If" in item:
            condition, yes, no = item["Fn::If"]
            operations = yes if holds(condition) else no
        for method, operation in operations.items():
            if method in _METHODS:
                yield path, method, operation


def _suffix() -> str:
    """Return a suffix that makes a name unique, like CloudFormation's."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))


def _apis(expanded: Mapping[str, Any], left_out: Mapping[str, str]) -> set[str]:
    return {key for key in expanded["Resources"] if left_out.get(key) == _HTTP_API}


def _without(expanded: Mapping[str, Any], left_out: Mapping[str, str]) -> dict[str, Any]:
    resources = {key: value for key, value in expanded["Resources"].items() if key not in left_out}
    return {**expanded, "Resources": resources}


def _mentions(value: Any, logical_ids: set[str]) -> bool:
    text = json.dumps(value)
    return any(f"${{{key}}}" in text or f'{{"Ref": "{key}"}}' in text for key in logical_ids)


def _resolved(value: Any, references: Mapping[str, str]) -> Any:
    """Replace references to resources that moto doesn't create by their values."""
    if isinstance(value, list):
        return [_resolved(each, references) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"} and value["Ref"] in references:
        return references[value["Ref"]]
    resolved = {key: _resolved(each, references) for key, each in value.items() if key != "DependsOn"}
    if "DependsOn" in value:
        needed = [value["DependsOn"]] if isinstance(value["DependsOn"], str) else value["DependsOn"]
        resolved["DependsOn"] = [each for each in needed if each not in references]
    if isinstance(resolved.get("Fn::Sub"), str):
        for key, reference in references.items():
            resolved["Fn::Sub"] = resolved["Fn::Sub"].replace(f"${{{key}}}", reference)
    return resolved
