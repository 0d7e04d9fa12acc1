"""What of the account an audit of its databases has to know: proxies, and whose passwords secrets hold. No password."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rdsiam.aws.rds import Database, Proxy
from rdsiam.aws.secrets.facts import SecretFacts


@dataclass(frozen=True)
class Account:
    """Proxies and secrets of the account and region."""

    proxies: tuple[Proxy, ...] = ()
    secrets: tuple[SecretFacts, ...] = ()

    def proxy_users(self, database: Database) -> frozenset[str]:
        """Return the users as which classic proxies log in to the database: those need their passwords."""
        users: set[str] = set()
        for proxy in self.proxies:
            if proxy.classic and database.identifier in proxy.targets:
                users |= set(proxy.users)
                users |= {one.username for one in self.secrets if one.username and one.arn in proxy.secret_arns}
        return frozenset(users)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `Account.from_json` gives it back."""
        return {"proxies": [asdict(one) for one in self.proxies], "secrets": [asdict(one) for one in self.secrets]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Account":
        """Return what `to_json` was made from."""
        proxies = (
            Proxy(**{**one, **{name: tuple(one[name]) for name in ("secret_arns", "users", "targets")}})
            for one in data["proxies"]
        )
        return cls(tuple(proxies), tuple(SecretFacts(**one) for one in data["secrets"]))
