"""The rules that evaluate the resources of IAM policies for `rds-db:connect`; no I/O.

A resource is right if it is the ARN of one database user whose login access.yaml gives to the policy's holder:
`arn:aws:rds-db:<region>:<account>:dbuser:<resource id>/<user>`. `RULES` is a table, and the first rule that applies
gives the verdict: a resource has at most one problem, the most basic one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rdsiam.audit.iam_grants import Grant, Resource, Verdict, has_wildcard
from rdsiam.aws.iam_statements import covers_connect, glob, is_explicit, is_mistaken, texts
from rdsiam.engines.logins import MANAGER

# Kinds of findings.
WILDCARD = "wildcard-connect-policy"
WRONG_ARN = "wrong-connect-arn"
STALE = "stale-resource-id"
MEMBER = "member-resource-id"
NAME_CASE = "user-name-case"
UNDECLARED = "undeclared-connect-grant"

_RESOURCE_ID = re.compile("(db|cluster|prx)-[A-Za-z0-9]+")
_WILDCARDS = re.compile("[*?]")
#: A resource id that no database has: a pattern that covers it is taken to cover every database.
_ANY_DATABASE = "db-PROBE"


@dataclass(frozen=True)
class Rule:
    """A row of the table: a condition, and the verdict on a resource that meets it."""

    applies: Callable[[Grant], bool]
    verdict: Callable[[Grant], Verdict]


def evaluate(grant: Grant) -> Verdict:
    """Return the verdict of the first rule that applies."""
    return next(rule.verdict(grant) for rule in RULES if rule.applies(grant))


# --- Conditions -------------------------------------------------------------------------------------------------------


def _is_no_user_arn(grant: Grant) -> bool:
    return grant.resource.service != "rds-db"


def _reaches_users_by_wildcard(grant: Grant) -> bool:
    resource = grant.resource
    return covers_connect(grant.statement) and not resource.is_arn and _reaches_users(resource.pattern, grant)


def _reaches_users(pattern: str, grant: Grant) -> bool:
    """Tell whether a pattern that isn't an ARN, such as `*` or `arn:*:db-ABC/app`, matches some database user's ARN.

    Candidates are the ARNs of a probe database and of the pattern's own database and user, with `x` for wildcards.
    """
    before, _, user = pattern.rpartition("/")
    resource_id = before.rpartition(":")[2]
    users = {MANAGER, _WILDCARDS.sub("x", user)}
    resource_ids = {_ANY_DATABASE, _WILDCARDS.sub("x", resource_id)}
    return any(
        glob(pattern, grant.deployment.user_arn(candidate, name)) for candidate in resource_ids for name in users
    )


def _is_about_other_actions(grant: Grant) -> bool:
    """Tell whether a resource that isn't a database user's ARN can be explained by the statement's other actions."""
    return _is_no_user_arn(grant) and (not is_explicit(grant.statement) or _has_other_actions(grant.statement))


def _has_other_actions(statement: Mapping[str, Any]) -> bool:
    """Tell whether a statement has actions of other services than `rds-db`; the misspelling `rds:connect` is none."""
    actions = texts(statement, "Action")
    return any(not action.lower().startswith("rds-db:") and not is_mistaken(action) for action in actions)


def _is_of_service_rds(grant: Grant) -> bool:
    return grant.resource.service == "rds"


def _is_of_other_partition(grant: Grant) -> bool:
    return grant.resource.partition != grant.deployment.partition


def _is_of_other_account(grant: Grant) -> bool:
    return not glob(grant.resource.account, grant.deployment.account)


def _is_of_other_region(grant: Grant) -> bool:
    return not glob(grant.resource.region, grant.deployment.region)


def _has_wildcard_as_family(grant: Grant) -> bool:
    any_login = grant.deployment.user_arn(_ANY_DATABASE, MANAGER)
    return grant.resource.family != "dbuser" and glob(grant.resource.pattern, any_login)


def _has_other_family(grant: Grant) -> bool:
    return grant.resource.family != "dbuser"


def _has_wildcard_across_slash(grant: Grant) -> bool:
    """Tell whether a `*` covers the slash, as in `dbuser:*` or `dbuser:db-ABC*`, and so all users behind it."""
    return _lacks_user(grant) and "*" in grant.resource.rest


def _lacks_user(grant: Grant) -> bool:
    return not grant.resource.user or not grant.resource.resource_id


def _has_mistaken_action(grant: Grant) -> bool:
    """Tell whether a statement has only the misspelling `rds:connect`, and so allows no logins."""
    return not covers_connect(grant.statement)


def _names_own_user_on_any_database(grant: Grant) -> bool:
    return has_wildcard(grant.resource.resource_id) and grant.names_own_user


def _has_wildcard_as_database(grant: Grant) -> bool:
    return has_wildcard(grant.resource.resource_id)


def _names_identifier(grant: Grant) -> bool:
    return _RESOURCE_ID.fullmatch(grant.resource.resource_id) is None


def _names_member(grant: Grant) -> bool:
    return grant.resource.resource_id in grant.fleet.resource_ids.members


def _may_be_of_other_region(grant: Grant) -> bool:
    """Tell whether the region is a wildcard and the database isn't of this region."""
    return _names_unknown_database(grant) and grant.resource.region != grant.deployment.region


def _names_unknown_database(grant: Grant) -> bool:
    return grant.resource.resource_id not in grant.fleet.resource_ids.known


def _has_wildcard_as_user(grant: Grant) -> bool:
    return has_wildcard(grant.resource.user)


def _is_not_audited(grant: Grant) -> bool:
    return grant.resource.resource_id not in grant.fleet.databases


def _is_given(grant: Grant) -> bool:
    return grant.is_given


def _names_own_user(grant: Grant) -> bool:
    return grant.names_own_user


def _differs_in_case(grant: Grant) -> bool:
    return grant.other_spelling is not None


def _always(_: Grant) -> bool:
    return True


# --- Verdicts ---------------------------------------------------------------------------------------------------------


def _right(grant: Grant) -> Verdict:
    return Verdict(grant.resource.text)


def _right_on_database(grant: Grant) -> Verdict:
    """Return a verdict with the database, so that a finding on the statement's condition names the database."""
    return Verdict(grant.resource.text, resource_id=grant.resource.resource_id)


def _wrong(why: str) -> Callable[[Grant], Verdict]:
    return lambda grant: Verdict(grant.resource.text, WRONG_ARN, why)


def _other_partition(grant: Grant) -> Verdict:
    why = f"partition {grant.resource.partition}; the databases are in {grant.deployment.partition}"
    return Verdict(grant.resource.text, WRONG_ARN, why)


def _wildcard(grant: Grant) -> Verdict:
    return Verdict(grant.resource.text, WILDCARD, any_user=grant.covers_manager(_ANY_DATABASE))


def _wildcard_across_slash(grant: Grant) -> Verdict:
    any_user = grant.covers_manager(_ANY_DATABASE, *grant.fleet.resource_ids.known)
    return Verdict(grant.resource.text, WILDCARD, any_user=any_user)


def _wildcard_as_database(grant: Grant) -> Verdict:
    return Verdict(grant.resource.text, WILDCARD, any_user=_is_any_user(grant.resource))


def _wildcard_as_user(grant: Grant) -> Verdict:
    resource = grant.resource
    return Verdict(resource.text, WILDCARD, resource_id=resource.resource_id, any_user=_is_any_user(resource))


def _is_any_user(resource: Resource) -> bool:
    """Tell whether the user is a pattern that covers rdsiam_manager.

    A policy variable doesn't count: in a request, IAM replaces it with one value.
    """
    return glob(resource.user, MANAGER) and resource.pattern == resource.text


def _other_family(grant: Grant) -> Verdict:
    why = f"`{grant.resource.family}:` instead of `dbuser:`"
    return _corrected(grant, WRONG_ARN, why, grant.resource.resource_id)


def _mistaken_action(grant: Grant) -> Verdict:
    why = "`rds:connect` doesn't exist; the action is `rds-db:connect`"
    return _corrected(grant, WRONG_ARN, why, grant.resource.resource_id)


def _identifier(grant: Grant) -> Verdict:
    resource_id = grant.fleet.by_identifier.get(grant.resource.resource_id, "")
    return _corrected(grant, WRONG_ARN, "the database's identifier instead of its resource id", resource_id)


def _member(grant: Grant) -> Verdict:
    cluster = grant.fleet.resource_ids.members[grant.resource.resource_id]
    verdict = _corrected(
        grant, MEMBER, f"the id of a cluster's member; logins need the cluster's id, {cluster}", cluster
    )
    return Verdict(verdict.resource, MEMBER, verdict.why, cluster, verdict.corrected)


def _corrected(grant: Grant, kind: str, why: str, resource_id: str) -> Verdict:
    """Return the verdict on a wrong ARN, with the right ARN if access.yaml gives the login that was intended."""
    user, arn = grant.resource.user, None
    if resource_id and user and grant.declared.gives(grant.holder, resource_id, user):
        arn = grant.deployment.user_arn(resource_id, user)
    audited = resource_id if resource_id in grant.fleet.databases else None
    return Verdict(grant.resource.text, kind, why, audited, arn)


def _stale(grant: Grant) -> Verdict:
    return Verdict(grant.resource.text, STALE, f"no database has the resource id {grant.resource.resource_id}")


def _name_case(grant: Grant) -> Verdict:
    resource_id, name = grant.resource.resource_id, str(grant.other_spelling)
    given = grant.declared.gives(grant.holder, resource_id, name)
    corrected = grant.deployment.user_arn(resource_id, name) if given else None
    why = f"the database's user is {name}; names are case-sensitive"
    return Verdict(grant.resource.text, NAME_CASE, why, resource_id, corrected)


def _undeclared(grant: Grant) -> Verdict:
    why = "access.yaml doesn't give this login"
    return Verdict(grant.resource.text, UNDECLARED, why, grant.resource.resource_id)


# --- The table --------------------------------------------------------------------------------------------------------

RULES: tuple[Rule, ...] = (
    # The resource isn't the ARN of a database user.
    Rule(_reaches_users_by_wildcard, _wildcard),
    Rule(_is_about_other_actions, _right),  # the resource belongs to the statement's other actions
    Rule(_is_of_service_rds, _wrong("`rds:` is for the administration of databases; logins need `rds-db:`")),
    Rule(_is_no_user_arn, _wrong("not the ARN of a database user")),
    # The ARN is of another partition, account or region.
    Rule(_is_of_other_partition, _other_partition),
    Rule(
        _is_of_other_account,
        _wrong("another account; assume a role of the database's account, and log in as that role"),
    ),
    Rule(_is_of_other_region, _right),  # the audit of that region evaluates it
    # The ARN, or the action, is misspelled.
    Rule(_has_wildcard_as_family, _wildcard),
    Rule(_has_other_family, _other_family),
    Rule(_has_wildcard_across_slash, _wildcard_across_slash),
    Rule(_lacks_user, _wrong("the user is missing: `dbuser:<resource id>/<user>`")),
    Rule(_has_mistaken_action, _mistaken_action),
    # The part that names the database.
    Rule(_names_own_user_on_any_database, _right),
    Rule(_has_wildcard_as_database, _wildcard_as_database),
    Rule(_names_identifier, _identifier),
    Rule(_names_member, _member),
    Rule(_may_be_of_other_region, _right),  # the region's own audit evaluates it
    Rule(_names_unknown_database, _stale),
    # The part that names the user.
    Rule(_has_wildcard_as_user, _wildcard_as_user),
    Rule(_is_not_audited, _right),  # rdsiam leaves this database alone
    Rule(_is_given, _right_on_database),
    Rule(_names_own_user, _right),
    Rule(_differs_in_case, _name_case),
    Rule(_always, _undeclared),
)
