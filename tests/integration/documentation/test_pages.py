"""The pages of the tasks: their blocks, pasted into a plain bash and a plain zsh by a developer and by an operator."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo import first_login
from demo.as_master import run_as_master
from demo.operator_shell import operator_lines
from localcloud import client
from localcloud.client import RunningCloud
from tests.integration.documentation.pasting import paste
from tests.terminal import Terminal, missing

pytestmark = pytest.mark.exhaustive

DEVELOPER = "arn:aws:iam::123456789012:role/developer"
#: The page of each task, in an order in which each finds what it needs; by whom its blocks are run, and the master's
#: statements that make its beginning.
PAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "docs/command.md": ("developer", ()),
    "docs/access.md": ("operator", ()),
    "docs/audit.md": ("operator", ("CREATE ROLE legacy LOGIN PASSWORD 'of-old-enough'",)),
    "docs/http-api.md": ("developer", ()),
    "docs/onboarding.md": ("operator", ("DROP ROLE IF EXISTS reporter",)),
    "docs/payloads.md": ("operator", ()),
    "docs/migration.md": ("operator", ("CREATE ROLE app LOGIN PASSWORD 'of-old-enough'",)),
}


def access_file(*more: Mapping[str, object]) -> str:
    """Return an access.yaml in which the developer may be three users of `orders`; JSON is YAML."""
    rule = {"on": ["shop"], "callers": [{"role": DEVELOPER}]}
    users = [
        {"name": "app_service", "privileges": "owner", **rule},
        {"name": "analyst", "privileges": "readonly", **rule},
        {"name": "reporter", "privileges": "readonly", "on": ["shop"]},
        *more,
    ]
    entry = {"match": {"identifier": "orders"}, "users": users}
    return json.dumps({"version": 1, "auditors": [{"role": DEVELOPER}], "databases": [entry]}, indent=2)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RunningCloud]:
    """Return a new cloud with the database `orders`, whose app_service the role developer may be."""
    with client.start(log=tmp_path / "cloud.log") as running:
        role = first_login.make_role(running.client, running.account)
        first_login.make_database(running.client, running.info, role)
        yield running


def shell_of(who: str, cloud: RunningCloud) -> str:
    """Return the lines that make a shell that of the developer, or of the operator."""
    if who == "operator":
        return "\n".join(operator_lines(cloud.info))
    keys = cloud.client("sts").assume_role(RoleArn=DEVELOPER, RoleSessionName="me")["Credentials"]
    return "\n".join(first_login.shell_lines(cloud.info, keys))


def is_onboarded(cloud: RunningCloud, user: str) -> bool:
    """Tell whether a user exists on `orders`, and the run that made it has ended."""
    rows = run_as_master(cloud.client, cloud.ca, "orders", f"SELECT FROM pg_roles WHERE rolname = '{user}'")
    arn = f"arn:aws:rds:{cloud.region}:{cloud.account}:db:orders"
    request = {"TableName": cloud.outputs["InventoryTable"], "Key": {"database": {"S": arn}}}
    item = cloud.client("dynamodb").get_item(**request)["Item"]
    return rows == "SELECT 1" and item["finished"]["BOOL"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_blocks_of_pages_run_as_printed(shell, cloud, tmp_path, eventually):
    if reason := missing(shell):
        pytest.skip(reason)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    (tmp_path / "access.yaml").write_text(access_file())
    problems = []
    for page, (who, statements) in PAGES.items():
        if page == "docs/onboarding.md":
            eventually(lambda: is_onboarded(cloud, "reporter"), 90)
        for statement in statements:
            run_as_master(cloud.client, cloud.ca, "orders", statement)
        if page == "docs/migration.md":
            (tmp_path / "access.yaml").write_text(access_file({"name": "app_iam", "replaces": "app", "roles": []}))
        (tmp_path / "shell").write_text(shell_of(who, cloud))
        with Terminal(shell, environment, tmp_path) as terminal:
            terminal.type(". ./shell\n")
            try:
                paste(terminal, page)
            except AssertionError as error:
                problems.append(str(error))
    assert problems == [], "\n\n".join(problems)
