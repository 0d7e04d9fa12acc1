"""Policies that remedy what is wrong with a holder's logins: its own policy corrected, or a Deny beside it."""

from collections.abc import Iterable, Mapping
from typing import Any

from rdsiam.audit.iam_grants import Verdict
from rdsiam.aws.iam_statements import is_connect, is_mistaken, keys, texts

#: Keys of conditions that are reported to work for `rds-db:connect`; lower case.
WORKING_KEYS = frozenset({"aws:tokenissuetime"})


def corrected_statement(statement: Mapping[str, Any], verdicts: Iterable[Verdict]) -> list[Mapping[str, Any]]:
    """Return the statements that replace one that speaks of logins by name: its other actions, and its right logins.

    :param verdicts: on all resources of the statement.
    """
    corrected: list[Mapping[str, Any]] = []
    actions = texts(statement, "Action")
    other_actions = [action for action in actions if not is_connect(action) and not is_mistaken(action)]
    arns = [verdict.resource if verdict.kind is None else verdict.corrected for verdict in verdicts]
    resources = list(dict.fromkeys(arn for arn in arns if arn is not None))
    if other_actions:
        corrected.append({**statement, "Action": other_actions})
        resources = [arn for arn in resources if ":dbuser:" in arn]
    if resources:
        sid = {"Sid": statement["Sid"]} if "Sid" in statement and not other_actions else {}
        condition = statement.get("Condition") or {}
        works = {key.lower() for key in keys(condition)} <= WORKING_KEYS
        conditions = {"Condition": condition} if condition and works else {}
        corrected.append({**sid, "Effect": "Allow", "Action": "rds-db:connect", "Resource": resources, **conditions})
    return corrected


def deny_all_but(arns: list[str]) -> Mapping[str, Any]:
    """Return a policy that denies all logins but those as the database users of these ARNs."""
    resources: dict[str, Any] = {"NotResource": arns} if arns else {"Resource": "*"}
    statement = {"Sid": "NoDatabaseLogins", "Effect": "Deny", "Action": "rds-db:connect", **resources}
    return {"Version": "2012-10-17", "Statement": [statement]}
