"""A permission that the template lacks stops the service, so that one that it has too many would be noticed."""

from pathlib import Path

import pytest

from localcloud import client
from tests.integration.account import Account, until

TEMPLATE = Path(__file__).parents[3] / "template.yaml"


@pytest.mark.parametrize(
    ("permission", "action"),
    [
        ("[rds:ModifyDBInstance]", "rds:ModifyDBInstance"),
        ("[iam:AttachRolePolicy]\n              Resource: !Sub", "iam:AttachRolePolicy"),
    ],
    ids=["OnboardFunction's", "PolicyFunction's"],
)
def test_a_permission_that_is_missing_is_missed(tmp_path, permission, action):
    text = TEMPLATE.read_text()
    assert permission in text
    text = text.replace(permission, permission.replace(action, "sqs:SendMessage"), 1)
    for folder in ("functions", "layers"):
        (tmp_path / folder).symlink_to(TEMPLATE.parent / folder)
    (tmp_path / "template.yaml").write_text(text)
    with client.start("--template", str(tmp_path / "template.yaml"), log=tmp_path / "cloud.log") as cloud:
        account = Account(cloud)
        role = account.make_role("app")
        account.declare("one", {"name": "app", "privileges": "readonly", "on": ["shop"], "roles": [role]})
        arn = account.create("one")
        until(lambda: f"is not authorized to perform: {action}" in (tmp_path / "cloud.log").read_text(), 60)
        assert not (account.record(arn) or {}).get("finished", {}).get("BOOL")
