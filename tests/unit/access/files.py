"""Files of access.yaml and databases for tests."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rdsiam.access.model import AccessFile, parse
from rdsiam.access.selection import SelectedDatabase
from rdsiam.errors import AccessFileInvalid

DOCS = Path(__file__).parents[3] / "docs"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
ORDERS = SelectedDatabase(
    arn=f"arn:aws:rds:eu-central-1:{ACCOUNT}:db:orders-1",
    identifier="orders-1",
    engine="postgres",
    engine_version="18.1",
    resource_id="db-ABC",
    status="available",
    host="orders-1.example",
    port=5432,
    iam_enabled=True,
    master_user="Administrator",
    tags={"env": "prod", "team": "orders"},
)
MYSQL = replace(ORDERS, engine="mysql")
MARIADB = replace(ORDERS, engine="mariadb")

GOOD = """\
version: 1
auditors:
  - role: arn:aws:iam::123456789012:role/security
databases:
  - match:
      engine: postgres
      identifier: "orders-*"
      tags: {env: prod}
    users:
      - name: app
        privileges: readwrite
        on: [myapp]
        roles: [arn:aws:iam::123456789012:role/path/of/app]
        callers:
          - role: arn:aws:iam::123456789012:role/ci
          - claim: {groups: oncall}
            until: 2026-12-31T00:00:00Z
            reason: required
    suppress:
      - {finding: user-without-iam, user: etl, reason: "vendor tool", until: 2027-03-01T00:00:00Z}
"""


def user(name: str = "app", privileges: Any = "readonly", on: Any = "*", **more: Any) -> dict[str, Any]:
    return {"name": name, "privileges": privileges, "on": on, **more}


def entry(*users: Mapping[str, Any], **match: Any) -> dict[str, Any]:
    return {"match": match or {"identifier": "*"}, "users": list(users)}


def access(*entries: Mapping[str, Any]) -> AccessFile:
    return parse(json.dumps({"version": 1, "databases": list(entries)}))


def problems(text: str) -> list[str]:
    with pytest.raises(AccessFileInvalid) as caught:
        parse(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value.problems


def problems_on(database: SelectedDatabase, *users: Mapping[str, Any]) -> list[str]:
    file = access(entry(*users))
    with pytest.raises(AccessFileInvalid) as caught:
        file.declared(database)
    return caught.value.problems
