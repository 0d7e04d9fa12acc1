"""The owner of an access key and its policies, read from moto's IAM and STS in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from localcloud.core.sigv4 import Credential
from localcloud.iam.judge import Decision, Judge, Policy, Request

_PARTITION = "aws"


@dataclass(frozen=True)
class Policies:
    """The policies of a principal: all policies of a decision but the resource's own."""

    identity: tuple[Policy, ...] = ()
    session: tuple[Policy, ...] = ()
    boundaries: tuple[Policy, ...] = ()


class UnknownPrincipal(Exception):
    """The user or role of a credential has been deleted, so that nothing is allowed."""


def secret_of(access_key: str) -> Credential | None:
    """Return the credential of a user's active access key or of an assumed-role session; None for any other key."""
    for account in list(iam_backends):
        for user in list(iam_backends[account][_PARTITION].users.values()):
            for key in list(user.access_keys):
                if key.access_key_id == access_key:
                    return _of_user(user, key, account) if key.status == "Active" else None
    for account in list(sts_backends):
        session = sts_backends[account][_PARTITION].get_assumed_role_from_access_key(access_key)
        if session is not None:
            return _of_session(session)
    return None


def policies_of(credential: Credential) -> Policies:
    """Return the policies of a credential, read anew for each decision, as AWS applies changes to all sessions.

    :raises UnknownPrincipal: its user or role no longer exists.
    """
    backend = iam_backends[credential.account][_PARTITION]
    arn = credential.role_arn or credential.principal_arn
    owners = list(backend.roles.values()) if credential.role_arn else list(backend.users.values())
    owner = next((each for each in owners if each.arn == arn), None)
    if owner is None:
        raise UnknownPrincipal(arn)
    identity = list(_attached_to(owner))
    if credential.role_arn is None:
        for group in backend.get_groups_for_user(owner.name):
            identity += _attached_to(group)
    session = () if not credential.session_policy else (Policy("SessionPolicy", credential.session_policy),)
    boundary_arn = getattr(owner, "permissions_boundary_arn", None)  # moto knows no boundaries of users
    boundaries = () if not boundary_arn else (_managed(backend.get_policy(boundary_arn)),)
    return Policies(tuple(identity), session, boundaries)


class Principals:
    """Joins the judge with the policies of a credential."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def allows(self, credential: Credential, action: str, resource: str, account: str) -> bool:
        """Tell whether `credential` may do `action` on `resource` of `account`."""
        return self.decide(credential, action, resource, account).allowed

    def decide(
        self,
        credential: Credential,
        action: str,
        resource: str,
        account: str,
        *,
        context: Mapping[str, str | list[str]] | None = None,
        resource_policy: Policy | None = None,
    ) -> Decision:
        """Return the judge's decision; a credential whose user or role no longer exists may do nothing.

        :raises localcloud.iam.judge.JudgeFailed: there was no decision.
        """
        try:
            policies = policies_of(credential)
        except UnknownPrincipal as unknown:
            return Decision(allowed=False, result="ImplicitlyDenied", error=f"{unknown} does not exist")
        return self._judge.decide(
            Request(
                principal=credential.principal_arn,
                action=action,
                resource=resource,
                resource_account=account,
                context=_context(credential) | dict(context or {}),
                identity_policies=policies.identity,
                session_policies=policies.session,
                permission_boundaries=policies.boundaries,
                resource_policy=resource_policy,
            )
        )

    def decide_for_service(
        self,
        service: str,
        action: str,
        resource: str,
        account: str,
        context: Mapping[str, str | list[str]],
        resource_policy: Policy | None,
    ) -> Decision:
        """Return the decision on an action of an AWS service itself, which only the resource's policy can allow."""
        own = _now() | {"aws:PrincipalIsAWSService": "true", "aws:PrincipalServiceName": service} | dict(context)
        return self._judge.decide(
            Request(service, action, resource, account, own, resource_policy=resource_policy or _NO_POLICY)
        )


#: For a resource that has no policy: no service may use it.
_NO_POLICY = Policy("none", {"Version": "2012-10-17", "Statement": []})


def _context(credential: Credential) -> dict[str, str | list[str]]:
    """Return the condition keys of a caller's request, as far as they are known here."""
    return _now() | {
        "aws:PrincipalArn": credential.role_arn or credential.principal_arn,
        "aws:PrincipalAccount": credential.account,
        "aws:PrincipalType": "AssumedRole" if credential.role_arn else "User",
        "aws:PrincipalIsAWSService": "false",
    }


def _now() -> dict[str, str | list[str]]:
    """Return the condition keys of every request. The plain HTTP endpoint counts as TLS, as it stands for AWS's."""
    now = datetime.now(UTC)
    return {
        "aws:CurrentTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:EpochTime": str(int(now.timestamp())),
        "aws:SecureTransport": "true",
    }


def _of_user(user: Any, key: Any, account: str) -> Credential:
    return Credential(
        access_key=key.access_key_id,
        secret_key=key.secret_access_key,
        principal_arn=user.arn,
        account=account,
    )


def _of_session(session: Any) -> Credential:
    expires = session.expiration
    return Credential(
        access_key=session.access_key_id,
        secret_key=session.secret_access_key,
        principal_arn=session.arn,
        account=session.account_id,
        session_token=session.session_token,
        expires=expires if expires.tzinfo else expires.replace(tzinfo=UTC),  # moto's times are naive, and UTC
        role_arn=session.role_arn,
        session_policy=session.policy or None,
    )


def _attached_to(owner: Any) -> Iterator[Policy]:
    """Return the inline and managed policies of a user, group or role."""
    for name, document in sorted(owner.policies.items()):
        yield Policy(name, document)
    for managed in list(owner.managed_policies.values()):
        yield _managed(managed)


def _managed(policy: Any) -> Policy:
    version = next(each for each in policy.versions if each.version_id == policy.default_version_id)
    return Policy(policy.arn, version.document)
