"""Needs of the calls of services whose operations are known by method and path: S3, Lambda and others."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus
from xml.etree import ElementTree

from botocore.parsers import ResponseParserError, RpcV2CBORParser
from moto.s3.models import s3_backends

from localcloud.core.web import Request
from localcloud.iam.actions import calls, paths
from localcloud.iam.calls import Need, Place, UnknownCall
from localcloud.iam.judge import Policy

#: Returns the resource policy of a function, by its ARN with or without qualifier.
PolicyOfFunction = Callable[[str], Policy | None]
#: Returns the ARN of a durable execution by its name in AWS's local runner; None if the runner hasn't begun it.
ArnOfExecution = Callable[[str], str | None]

_BUCKET, _OBJECT = paths("s3", "bucket"), paths("s3", "object")
# Query parameters that don't choose another operation.
_HARMLESS = re.compile(
    r"(?i)x-id|x-amz-.*|response-.*|list-type|prefix|delimiter|max-keys|continuation-token|encoding-type|start-after"
    r"|key-marker|version-id-marker|marker|fetch-owner|partNumber"
)
_FUNCTION = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)(?P<rest>/[a-z]+)?(?P<sid>/[^/]+)?/?")
_FUNCTION_CALLS = paths("lambda", "function")
_EXECUTION = re.compile(r"/2025-12-01/durable-executions/(?P<id>.+?)(?P<rest>/(?:checkpoint|state|history|stop))?/?")
_EXECUTION_CALLS = paths("lambda", "execution")
_HUB_CALLS = paths("securityhub", "hub")
_METRICS_CALLS = calls("monitoring")
_EXECUTIONS = re.compile(r"/2025-12-01/functions/(?P<name>[^/]+)/durable-executions")


def s3_needs(request: Request, place: Place) -> list[Need]:
    """Return the needs of a call of S3.

    :raises UnknownCall: it is not listed, or the bucket is in the host name, which moto ignores here.
    """
    bucket, _, key = unquote(request.path).lstrip("/").partition("/")
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    chosen = sorted(name for name in query if not _HARMLESS.fullmatch(name))
    if not bucket:
        if request.method != "GET" or chosen:
            raise UnknownCall(f"s3: {request.method} / {chosen}")
        return [Need("s3:ListAllMyBuckets", "*")]
    policy = _bucket_policy(bucket, place)
    arn = f"arn:aws:s3:::{bucket}"
    if not key and request.method == "POST" and chosen == ["delete"]:
        return list(_many(arn, request.body, policy))
    actions = _OBJECT if key else _BUCKET
    action = actions.get((request.method, chosen[0] if chosen else None)) if len(chosen) < 2 else None
    if action is None:
        raise UnknownCall(f"s3: {request.method} of {'an object' if key else 'a bucket'} {chosen}")
    context = {"s3:prefix": query["prefix"]} if action == "ListBucket" and "prefix" in query else {}
    result = [Need(f"s3:{action}", f"{arn}/{key}" if key else arn, context, policy)]
    if source := request.header("x-amz-copy-source"):
        source_bucket, _, source_key = unquote_plus(source.partition("?")[0]).lstrip("/").partition("/")
        source_policy = _bucket_policy(source_bucket, place)
        result.append(Need("s3:GetObject", f"arn:aws:s3:::{source_bucket}/{source_key}", {}, source_policy))
    return result


def lambda_needs(
    request: Request, place: Place, policy_of: PolicyOfFunction, execution_arn: ArnOfExecution
) -> list[Need]:
    """Return the needs of a call of Lambda.

    A checkpoint that invokes another function needs that permission as well: AWS invokes it as the function's role.

    :raises UnknownCall: it is not listed.
    """
    path, query = unquote(request.path), dict(parse_qsl(request.query))
    if request.method == "GET" and path.rstrip("/") == "/2015-03-31/functions":
        return [Need("lambda:ListFunctions", "*")]
    if match := _FUNCTION.fullmatch(path):
        action = _FUNCTION_CALLS.get((request.method, match["rest"]))
        if match["sid"]:
            action = "RemovePermission" if (request.method, match["rest"]) == ("DELETE", "/policy") else None
        if action is not None:
            arn = function_arn(unquote(match["name"]), query.get("Qualifier"), place)
            return [Need(f"lambda:{action}", arn, {}, policy_of(arn))]
    if (match := _EXECUTIONS.fullmatch(path)) and request.method == "GET":
        arn = function_arn(unquote(match["name"]), None, place)
        return [Need("lambda:ListDurableExecutionsByFunction", arn)]
    if match := _EXECUTION.fullmatch(path):
        action = _EXECUTION_CALLS.get((request.method, match["rest"]))
        arn_of_execution = execution_arn(match["id"])
        if action is not None and arn_of_execution is not None:
            chained = _chained(request.body, place, policy_of) if match["rest"] == "/checkpoint" else ()
            return [Need(f"lambda:{action}", arn_of_execution), *chained]
    raise UnknownCall(f"lambda: {request.method} {path}")


def securityhub_needs(request: Request, place: Place) -> list[Need]:
    """Return the needs of a call of Security Hub.

    :raises UnknownCall: it is not listed.
    """
    path = unquote(request.path)
    hub = place.arn("securityhub", "hub/default")
    if (request.method, path) == ("POST", "/findings/import"):
        findings = json.loads(request.body or b"{}").get("Findings") or [{}]
        products = {(str(each.get("ProductArn") or "*"), str(each.get("AwsAccountId") or "")) for each in findings}
        return [
            Need("securityhub:BatchImportFindings", arn, {"securityhub:TargetAccount": account})
            for arn, account in sorted(products)
        ]
    action = _HUB_CALLS.get((request.method, path))
    if action is None:
        raise UnknownCall(f"securityhub: {request.method} {path}")
    return [Need(f"securityhub:{action}", hub)]


def metrics_needs(request: Request) -> list[Need]:
    """Return the needs of a call of CloudWatch; its operation is in the path (CBOR), in a header or in a form.

    :raises UnknownCall: it is not listed.
    """
    match = re.fullmatch(r"/service/GraniteServiceVersion20100801/operation/(?P<name>\w+)", unquote(request.path))
    target = (request.header("x-amz-target") or "").rpartition(".")[2]
    typed = (request.header("content-type") or "").partition(";")[0]
    body = request.body.decode("utf-8", "replace") if typed == "application/x-www-form-urlencoded" else ""
    pairs = parse_qsl(request.query) + parse_qsl(body)
    form = dict(pairs)
    if len(form) < len(pairs):
        raise UnknownCall("cloudwatch: a parameter is given twice")
    named = {name for name in (match["name"] if match else "", target, form.get("Action", "")) if name}
    if len(named) != 1 or not named <= _METRICS_CALLS:
        raise UnknownCall(f"cloudwatch: {sorted(named)}")
    return [Need(f"cloudwatch:{named.pop()}", "*", _namespace(request, form))]


def _namespace(request: Request, form: Mapping[str, str]) -> dict[str, str]:
    """Return the namespace of a metric, which conditions may ask about."""
    if "Namespace" in form:
        return {"cloudwatch:namespace": form["Namespace"]}
    typed = request.header("content-type") or ""
    body: Any = {}
    if "cbor" in typed:
        try:
            body = RpcV2CBORParser(None).parse_data_item(io.BytesIO(request.body))
        except ResponseParserError:
            raise UnknownCall("cloudwatch: no CBOR") from None
    elif "json" in typed:
        body = json.loads(request.body or b"{}")
    return {"cloudwatch:namespace": str(body["Namespace"])} if body.get("Namespace") else {}


def function_arn(name: str, qualifier: str | None, place: Place) -> str:
    """Return the ARN of a function that is named by its name, a part of its ARN or all of it."""
    parts = name.split(":")
    if name.startswith("arn:"):
        arn, inner = ":".join(parts[:7]), parts[7:8]
    else:
        bare = parts[2:] if parts[0].isdigit() and parts[1:2] == ["function"] else parts
        bare = bare[1:] if bare[0] == "function" else bare
        arn, inner = place.arn("lambda", f"function:{bare[0]}"), bare[1:2]
    used = (inner or [qualifier or ""])[0]
    return f"{arn}:{used}" if used else arn


def _chained(body: bytes, place: Place, policy_of: PolicyOfFunction) -> Iterator[Need]:
    updates: list[Mapping[str, Any]] = json.loads(body or b"{}").get("Updates") or []
    for update in updates:
        name = (update.get("ChainedInvokeOptions") or {}).get("FunctionName")
        if update.get("Type") == "CHAINED_INVOKE" and name:
            arn = function_arn(str(name), None, place)
            yield Need("lambda:InvokeFunction", arn, {}, policy_of(arn))


def _bucket_policy(bucket: str, place: Place) -> Policy | None:
    bucket_model = s3_backends[place.account]["aws"].buckets.get(bucket)
    if bucket_model is None or not bucket_model.policy:
        return None
    document = bucket_model.policy
    return Policy(bucket, document.decode() if isinstance(document, bytes) else document)


def _many(arn: str, body: bytes, policy: Policy | None) -> Iterator[Need]:
    """Yield the needs of DeleteObjects; deleting a version is another action."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  only requests of this machine's tests
    except ElementTree.ParseError:
        raise UnknownCall("s3: DeleteObjects without XML") from None
    for each in root.iter():
        if each.tag.endswith("Object"):
            parts = {child.tag.rpartition("}")[2]: child.text or "" for child in each}
            action = "s3:DeleteObjectVersion" if parts.get("VersionId") else "s3:DeleteObject"
            yield Need(action, f"{arn}/{parts.get('Key', '')}", {}, policy)
