"""AWS's errors, in the protocol of each service."""

from __future__ import annotations

import json
import uuid
from xml.sax.saxutils import escape

from localcloud.core.web import Response

_QUERY = {
    "iam",
    "sts",
    "rds",
    "sns",
    "sqs",
    "cloudformation",
    "ec2",
    "monitoring",
    "autoscaling",
    "elasticloadbalancing",
}
_REST_JSON = {"lambda", "apigateway", "scheduler", "execute-api", "xray", "securityhub"}
# Names of a refusal: in the query protocol, of JSON services, and of S3.
_NAMES = {
    "InvalidClientTokenId": ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"),
    "ExpiredToken": ("ExpiredToken", "ExpiredTokenException", "ExpiredToken"),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", "InvalidSignatureException", "SignatureDoesNotMatch"),
    "MissingAuthenticationToken": ("MissingAuthenticationToken", "MissingAuthenticationTokenException", "AccessDenied"),
    "IncompleteSignature": ("IncompleteSignature", "IncompleteSignatureException", "AuthorizationHeaderMalformed"),
    "AccessDenied": ("AccessDenied", "AccessDeniedException", "AccessDenied"),
}


def refusal(service: str, code: str, message: str, status: int | None = None) -> Response:
    """Return the refusal of a call, as a client of `service` expects it.

    :param code: name in the query protocol; the names of other protocols are looked up.
    :param status: 403 when omitted (400 for JSON services).
    """
    query, of_json, of_s3 = _NAMES.get(code, (code, code, code))
    request_id = str(uuid.uuid4())
    if service == "s3":
        error = f"<Code>{of_s3}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId>"
        body = f"<Error>{error}</Error>"
        return _xml(status or 403, body, "x-amz-request-id", request_id)
    if service in _QUERY:
        error = f"<Type>Sender</Type><Code>{query}</Code><Message>{escape(message)}</Message>"
        body = f"<ErrorResponse><Error>{error}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        return _xml(status or 403, body, "x-amzn-RequestId", request_id)
    if service in _REST_JSON:
        headers = (
            ("Content-Type", "application/json"),
            ("x-amzn-ErrorType", of_json),
            ("x-amzn-RequestId", request_id),
        )
        return Response(status or 403, headers, json.dumps({"message": message}).encode())
    body = json.dumps({"__type": of_json, "message": message})
    typed = ("Content-Type", "application/x-amz-json-1.1")
    return Response(status or 400, (typed, ("x-amzn-RequestId", request_id)), body.encode())


def _xml(status: int, body: str, id_header: str, request_id: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return Response(status, (("Content-Type", "text/xml"), (id_header, request_id)), text.encode())
