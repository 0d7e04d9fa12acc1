"""Resource policies of Lambda functions, versions and aliases, and the calls that read and change them."""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from localcloud.core.web import Request, Response
from localcloud.iam.calls import Place
from localcloud.iam.calls_rest import function_arn
from localcloud.iam.judge import Policy
from localcloud.lambda_.functions import LambdaError, error_response

_PATH = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/policy(?:/(?P<sid>[^/]+))?/?")
_JSON = (("Content-Type", "application/json"),)


class FunctionPolicies:
    """Holds the resource policies of one cloud's functions, by the ARN of the function, version or alias.

    AddPermission adds a statement also to a policy that `AWS::Lambda::ResourcePolicy` has set. Whether AWS does the
    same is not documented; a policy that denies everything it doesn't allow is safe in both cases.

    :param check: raises LambdaError if no function has that ARN.
    """

    def __init__(self, place: Place, check: Callable[[str], None]) -> None:
        self._place = place
        self._check = check
        self._policies: dict[str, Policy] = {}
        self._lock = threading.Lock()

    def deploy(self, policies: Mapping[str, Policy]) -> None:
        """Replace all policies."""
        with self._lock:
            self._policies = dict(policies)

    def policy_of(self, arn: str) -> Policy | None:
        """Return the policy of a function, version or alias; None if there is none."""
        return self._policies.get(arn.removesuffix(":$LATEST"))  # $LATEST and no qualifier are the same to Lambda

    def handle(self, request: Request) -> Response | None:
        """Answer AddPermission, RemovePermission or GetPolicy; None for any other call."""
        match = _PATH.fullmatch(unquote(request.path))
        if match is None:
            return None
        query = dict(parse_qsl(request.query))
        arn = function_arn(unquote(match["name"]), query.get("Qualifier"), self._place).removesuffix(":$LATEST")
        try:
            self._check(arn)
        except LambdaError as error:
            return error_response(error.code, error.status, str(error))
        with self._lock:
            if request.method == "POST" and match["sid"] is None:
                return self._add(arn, json.loads(request.body or b"{}"))
            if request.method == "DELETE" and match["sid"] is not None:
                return self._remove(arn, match["sid"])
            if request.method == "GET" and match["sid"] is None:
                return self._get(arn)
        return None

    def _add(self, arn: str, permission: Mapping[str, Any]) -> Response:
        statements = self._statements(arn)
        sid = str(permission["StatementId"])
        if any(statement.get("Sid") == sid for statement in statements):
            message = f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove "
            return error_response("ResourceConflictException", 409, message + "the existing statement.")
        statement = as_statement(sid, arn, permission)
        self._put(arn, [*statements, statement])
        return Response(201, _JSON, json.dumps({"Statement": json.dumps(statement)}).encode())

    def _remove(self, arn: str, sid: str) -> Response:
        statements = self._statements(arn)
        left = [statement for statement in statements if statement.get("Sid") != sid]
        if len(left) == len(statements):
            return error_response("ResourceNotFoundException", 404, f"Statement {sid} is not found in resource policy.")
        self._put(arn, left)
        return Response(204)

    def _get(self, arn: str) -> Response:
        statements = self._statements(arn)
        if not statements:
            return error_response("ResourceNotFoundException", 404, "The resource you requested does not exist.")
        document = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        answer = {
            "Policy": json.dumps(document),
            "RevisionId": str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document))),
        }
        return Response(200, _JSON, json.dumps(answer).encode())

    def _statements(self, arn: str) -> list[Any]:
        policy = self._policies.get(arn)
        if policy is None:
            return []
        document = json.loads(policy.document) if isinstance(policy.document, str) else policy.document
        statements = copy.deepcopy(document["Statement"])
        return statements if isinstance(statements, list) else [statements]

    def _put(self, arn: str, statements: list[Any]) -> None:
        name = self._policies[arn].name if arn in self._policies else "Permissions"
        self._policies[arn] = Policy(name, {"Version": "2012-10-17", "Statement": statements})


def as_statement(sid: str, arn: str, permission: Mapping[str, Any]) -> dict[str, Any]:
    """Write a permission, of AddPermission or of AWS::Lambda::Permission, as the statement that Lambda makes of it."""
    principal = str(permission["Principal"])
    kind = "Service" if principal.endswith((".amazonaws.com", ".amazonaws.com.cn")) else "AWS"
    condition: dict[str, Any] = {}
    if "SourceArn" in permission:
        condition["ArnLike"] = {"aws:SourceArn": permission["SourceArn"]}
    equal = {"SourceAccount": "aws:SourceAccount", "PrincipalOrgID": "aws:PrincipalOrgID",
             "FunctionUrlAuthType": "lambda:FunctionUrlAuthType"}  # fmt: skip
    if given := {key: permission[name] for name, key in equal.items() if name in permission}:
        condition["StringEquals"] = given
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": principal if principal == "*" else {kind: principal},
        "Action": permission["Action"],
        "Resource": arn,
    }
    return statement | ({"Condition": condition} if condition else {})
