"""The OpenAPI document, made of what requests are checked by and answers are made of; `make openapi` writes it."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rdsiam.api import http, queries
from rdsiam.api.audits import AuditList, AuditWithLinks
from rdsiam.api.databases import AllowedDatabases
from rdsiam.api.decisions import PastDecisions
from rdsiam.vending.flow import TokenAnswer

ROOT = Path(__file__).parents[1]
#: Where ReportsFunction serves it from; docs/ has a link to it.
PLACE = ROOT / "functions" / "reports" / "openapi.json"
_ABOUT = """\
Login tokens for a fleet of Amazon RDS databases. Made from the code by `make openapi`.

The routes under /oidc take JWTs and exist only where the stack has an issuer; all others are signed with SigV4 for the
service `execute-api`. What API Gateway itself refuses has `message` and no `code`."""
_MODELS: dict[str, Any] = {
    "TokenRequest": http.TokenRequest,
    "TokenAnswer": TokenAnswer,
    "AllowedDatabases": AllowedDatabases,
    "PastDecisions": PastDecisions,
    "AuditList": AuditList,
    "AuditWithLinks": AuditWithLinks,
    "Problem": http.Problem,
}
_STATUSES = {
    400: "malformed: `detail` names the field or parameter",
    401: "no JWT, or not a good one",
    403: "not allowed, unknown, or not signed correctly; the answer never tells what exists",
    404: "no audit of that id is over, or the database that you may log in to has no such endpoint",
    413: "the body has more than 4,096 bytes",
    429: "too many requests",
    500: "API Gateway got no answer",
    503: "not decided, or not recorded; so nothing was handed out",
}
#: What API Gateway answers by itself, and what the functions answer.
_GATEWAYS, _OURS = {401, 403, 429, 500, 503}, {400, 403, 404, 413, 503}
_ALWAYS = {400, 403, 429, 500, 503}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    routes = _routes_for_all()
    with_jwt = {
        f"/oidc{path}": {method: _with_jwt(operation) for method, operation in item.items()}
        for path, item in routes.items()
    }
    version = tomllib.loads((ROOT / "layers" / "rdsiam" / "pyproject.toml").read_text())["project"]["version"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "rdsiam", "version": version, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com",
                "variables": {"api": {"default": "a1b2c3d4e5"}, "region": {"default": "eu-west-1"}},
            }
        ],
        "security": [{"iam": []}],
        "paths": routes | _routes_for_auditors() | with_jwt,
        "components": {"schemas": _schemas(), "securitySchemes": _SCHEMES},
    }


def as_text() -> str:
    """Return what the files hold."""
    return json.dumps(document(), indent=1) + "\n"


_SCHEMES = {
    "iam": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "AWS Signature Version 4 for the service execute-api",
    },
    "oidc": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}
_GATEWAY_MESSAGE = {
    "type": "object",
    "description": "What API Gateway itself answers.",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}


def _routes_for_all() -> dict[str, dict[str, Any]]:
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/TokenRequest"}}}
    token = _operation("vendToken", "Get a login token", "TokenAnswer", 404, 413)
    decisions = _operation("listDecisions", "List decisions: your own, as an auditor all", "PastDecisions")
    return {
        "/tokens": {"post": token | {"requestBody": {"required": True, "content": body}}},
        "/databases": {"get": _operation("listDatabases", "List what you may log in to", "AllowedDatabases")},
        "/decisions": {"get": decisions | {"parameters": _parameters(queries.DecisionsQuery)}},
    }


def _routes_for_auditors() -> dict[str, dict[str, Any]]:
    audits = _operation("listAudits", "List audits that are over, for auditors", "AuditList")
    audit = _operation("getAudit", "Get links to one audit's reports, for auditors", "AuditWithLinks", 404)
    (of_audit,) = (one["schema"] for one in _parameters(queries.AuditsQuery) if one["name"] == "before")
    path = {"name": "id", "in": "path", "required": True, "schema": of_audit}
    return {
        "/audits": {"get": audits | {"parameters": _parameters(queries.AuditsQuery)}},
        "/audits/{id}": {"get": audit | {"parameters": [path]}},
        "/openapi.json": {"get": _operation("describeApi", "Get this document", None)},
    }


def _with_jwt(operation: dict[str, Any]) -> dict[str, Any]:
    return operation | {
        "operationId": f"{operation['operationId']}WithJwt",
        "security": [{"oidc": []}],
        "responses": {"401": _response(401)} | operation["responses"],
    }


def _operation(name: str, summary: str, answer: str | None, *statuses: int) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{answer}"} if answer else {"type": "object"}
    good = {
        "description": "done",
        "headers": {"Cache-Control": {"required": True, "schema": {"const": "no-store"}}},
        "content": {"application/json": {"schema": schema}},
    }
    others = {str(status): _response(status) for status in sorted(_ALWAYS | set(statuses))}
    return {"operationId": name, "summary": summary, "responses": {"200": good} | others}


def _response(status: int) -> dict[str, Any]:
    content = {}
    if status in _OURS:
        content["application/problem+json"] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if status in _GATEWAYS:
        content["application/json"] = {"schema": {"$ref": "#/components/schemas/GatewayMessage"}}
    headers = {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}}} if status == 503 else {}
    return {"description": _STATUSES[status], "content": content} | ({"headers": headers} if headers else {})


def _parameters(query: Any) -> list[dict[str, Any]]:
    properties = TypeAdapter(query).json_schema()["properties"]
    return [
        {"name": field.name, "in": "query", "required": False, "schema": _without_null(properties[field.name])}
        for field in fields(query)
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow a parameter to be left out, but never to be null."""
    choices = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    merged = (choices[0] if choices else {}) | {key: value for key, value in schema.items() if key != "anyOf"}
    return {key: value for key, value in merged.items() if key != "title" and (key, value) != ("default", None)}


def _schemas() -> dict[str, Any]:
    inputs: Any = [(name, "validation", TypeAdapter(model)) for name, model in _MODELS.items()]
    _, shared = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = shared["$defs"] | {"GatewayMessage": _GATEWAY_MESSAGE}
    schemas["TokenRequest"]["additionalProperties"] = False
    return dict(sorted(schemas.items()))
