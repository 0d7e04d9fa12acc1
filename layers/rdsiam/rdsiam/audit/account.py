"""The proxies, secrets and offers of the AWS account, as far as an audit needs them. Without passwords."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from rdsiam.aws.rds import Database, Proxy
from rdsiam.aws.secrets.facts import SecretFacts


@dataclass(frozen=True)
class AccountContext:
    """Proxies and secrets of the account and region, and what RDS doesn't offer there.

    :ivar without_iam: ARN of a database that can't have IAM authentication → the nearest version with it that the
        database can be upgraded to; None if RDS offers none.
    """

    proxies: tuple[Proxy, ...] = ()
    secrets: tuple[SecretFacts, ...] = ()
    without_iam: Mapping[str, str | None] = field(default_factory=dict)

    def proxy_users(self, database: Database) -> frozenset[str]:
        """Return the users as which classic proxies log in to a database; these users need their passwords."""
        users: set[str] = set()
        for proxy in self.proxies:
            if proxy.classic and database.identifier in proxy.targets:
                arns = set(proxy.secret_arns)
                users |= set(proxy.users)
                users |= {secret.username for secret in self.secrets if secret.username and secret.arn in arns}
        return frozenset(users)

    def proxies_of(self, database: Database, user: str) -> list[str]:
        """Return the names of the classic proxies that log in to a database as a user, sorted."""
        secrets = {secret.arn for secret in self.secrets_of(database) if secret.username == user}
        return sorted(
            proxy.name
            for proxy in self.proxies
            if proxy.classic
            and database.identifier in proxy.targets
            and (user in proxy.users or secrets & set(proxy.secret_arns))
        )

    def secrets_of(self, database: Database) -> list[SecretFacts]:
        """Return the secrets that log in to a database."""
        place = (database.arn, database.identifier, database.host, database.port)
        names = {name.lower() for name in place[:3] if name}
        numbers = {number for name in names for number in self._by_place.get(name, ())}
        return [secret for secret in map(self.secrets.__getitem__, sorted(numbers)) if secret.is_of(*place)]

    @cached_property
    def secrets_by_arn(self) -> Mapping[str, SecretFacts]:
        """The secrets by their ARNs."""
        return {secret.arn: secret for secret in self.secrets}

    @cached_property
    def _by_place(self) -> Mapping[str, list[int]]:
        """Numbers of the secrets by the host and the instance that they name: an account may have 100,000 secrets."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, secret in enumerate(self.secrets):
            for name in {(secret.host or "").rstrip(".").lower(), (secret.instance or "").lower()}:
                numbers[name].append(number)
        return numbers

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "proxies": [asdict(proxy) for proxy in self.proxies],
            "secrets": [secret.to_json() for secret in self.secrets],
            "without_iam": dict(self.without_iam),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AccountContext":
        """Return the context from which `to_json` made this JSON."""
        proxies = (
            Proxy(**{**proxy, **{name: tuple(proxy[name]) for name in ("secret_arns", "users", "targets")}})
            for proxy in data["proxies"]
        )
        return cls(tuple(proxies), tuple(SecretFacts(**secret) for secret in data["secrets"]), data["without_iam"])
