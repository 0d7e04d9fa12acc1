"""One server as a session has read it, with all that its accounts are compared with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from rdsiam.access.selection import SelectedDatabase
from rdsiam.access.users import DeclaredUser
from rdsiam.audit.account import AccountContext
from rdsiam.aws.secrets.facts import SecretFacts
from rdsiam.engines.facts import AccountFacts, ServerFacts
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.findings.catalogue import KINDS
from rdsiam.findings.finding import Finding
from rdsiam.findings.kind import Case
from rdsiam.state.record import Ownership

#: Duration of a suppression that a remediation proposes.
_ACCEPTED_FOR = timedelta(days=180)


@dataclass(frozen=True)
class Server:
    """A server, its accounts, and the access that is declared on it.

    :ivar declared: declared users by name; None if access.yaml is invalid for the database.
    :ivar ownership: users and groups that rdsiam manages, from the inventory.
    :ivar rotating: users whose passwords rotate by access.yaml.
    :ivar revoked: users that an operator has revoked.
    """

    database: SelectedDatabase
    facts: ServerFacts
    declared: Mapping[str, DeclaredUser] | None
    ownership: Mapping[str, Ownership]
    account: AccountContext
    at: datetime
    rotating: frozenset[str] = frozenset()
    revoked: Collection[str] = frozenset()

    @cached_property
    def accounts(self) -> Sequence[AccountFacts]:
        """All accounts but the master and rdsiam's own users, sorted."""
        return sorted((account for account in self.facts.accounts if not self._is_exempt(account)), key=by_name)

    @cached_property
    def usable(self) -> Sequence[AccountFacts]:
        """The accounts that somebody can log in as."""
        return [account for account in self.accounts if account.login and not account.unusable]

    @cached_property
    def proxy_users(self) -> frozenset[str]:
        """The users as which classic proxies log in."""
        return self.account.proxy_users(self.database)

    @property
    def accepted_until(self) -> str:
        """The end of a suppression that a remediation proposes."""
        return (self.at + _ACCEPTED_FOR).strftime("%Y-%m-%dT00:00:00Z")

    def is_declared(self, name: str) -> bool | None:
        """Tell whether access.yaml declares a user; None if it is invalid for the database."""
        return None if self.declared is None else name in self.declared

    def user(self, name: str) -> DeclaredUser | None:
        """Return the declaration of a user; None if there is none."""
        return (self.declared or {}).get(name)

    def is_managed(self, name: str) -> bool:
        """Tell whether onboarding may change a user: rdsiam manages it, or access.yaml lets rdsiam adopt it."""
        user = self.user(name)
        return name in self.ownership or (user is not None and user.adopt)

    def keeps_password(self, name: str) -> str:
        """Return why a user can't migrate from its password to tokens; empty if it can."""
        if name in self._administrators:
            return "it is an administrator"
        return "it replicates" if name in self._replicating else ""

    @cached_property
    def _administrators(self) -> frozenset[str]:
        return frozenset(account.name for account in self.accounts if account.administrator)

    @cached_property
    def _replicating(self) -> frozenset[str]:
        """Users that replicate, if that takes a password."""
        by_token = self.facts.replication_by_token
        return frozenset(account.name for account in self.accounts if account.replication and not by_token)

    @cached_property
    def _successors(self) -> Mapping[str, str]:
        """User → the user that replaces it by access.yaml."""
        return {user.replaces: user.name for user in (self.declared or {}).values() if user.replaces is not None}

    @cached_property
    def _secrets(self) -> Mapping[str, Sequence[SecretFacts]]:
        """User → the secrets that hold its password."""
        secrets: dict[str, list[SecretFacts]] = {}
        for secret in self.account.secrets_of(self.database):
            if secret.username:
                secrets.setdefault(secret.username, []).append(secret)
        return secrets

    def account_case(
        self, user: str, subject: tuple[str, ...], evidence: Mapping[str, object], accounts: Sequence[AccountFacts]
    ) -> Case:
        """Return the case of a user, with all that its remediation needs to know about it."""
        name = accounts[0].name
        return Case(
            self.database,
            user,
            (self.database.resource_id, *subject),
            evidence,
            accounts=tuple(accounts),
            declared=self.user(name),
            managed=self.is_managed(name),
            schemas=self.facts.databases,
            accepted_until=self.accepted_until,
            keeps_password=self.keeps_password(name),
            successor=self._successors.get(name),
            rotates=name in self.rotating,
            unadministered=name in self.facts.unadministered,
            secrets=tuple(self._secrets.get(name, ())),
        )

    def exposure(self, account: AccountFacts) -> tuple[str, ...]:
        """Return the exposures of an account, sorted."""
        exposures = {
            "privileged": account.administrator,
            "public": self.database.public,
            "any-host": account.host == "%",
            "clear-text": not account.tls and not self.facts.tls_enforced,
        }
        return tuple(sorted(name for name, applies in exposures.items() if applies))

    def evidence(self, account: AccountFacts, exposure: tuple[str, ...]) -> dict[str, object]:
        """Return the evidence that all findings about one account share."""
        return {
            "plugin": account.plugin,
            "password": account.password,
            "administrator": account.administrator,
            "tls": account.tls or bool(self.facts.tls_enforced),
            "owns": account.owns,
            "sessions": account.sessions,
            "last_seen": account.last_seen,
            "declared": self.is_declared(account.name),
            "exposure": list(exposure),
        }

    def finding(self, kind: str, user: str | None, subject: tuple[str, ...], evidence: Mapping[str, object]) -> Finding:
        """Return a finding about the server as a whole, or about a user without an account."""
        case = Case(
            self.database,
            user,
            (self.database.resource_id, *subject),
            evidence,
            schemas=self.facts.databases,
            accepted_until=self.accepted_until,
        )
        return KINDS[kind].finding(case)

    def account_finding(
        self,
        kind: str,
        account: AccountFacts,
        exposure: tuple[str, ...] | None = None,
        title: str = "",
        **evidence: object,
    ) -> Finding:
        """Return a finding about one account.

        :param exposure: if not all of the account's exposures count.
        :param title: as in `Case`.
        :param evidence: added to that which all findings about one account share.
        """
        exposure = self.exposure(account) if exposure is None else exposure
        subject = (account.name, account.host)
        case = self.account_case(account.label, subject, self.evidence(account, exposure) | evidence, [account])
        return KINDS[kind].finding(replace(case, exposure=exposure, title=title))

    def _is_exempt(self, account: AccountFacts) -> bool:
        """Tell whether an account is the master's or rdsiam's own; a namesake with another host is neither."""
        return account.name in {self.database.master_user, MANAGER, AUDITOR} and account.host in {"", "%"}


def by_name(account: AccountFacts) -> tuple[str, str]:
    """Return the key that sorts accounts."""
    return account.name, account.host
