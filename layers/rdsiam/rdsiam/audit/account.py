"""What of the account an audit of its databases has to know: proxies, and whose passwords secrets hold. No password."""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import ClientError

from rdsiam.audit.facts import SecretFacts
from rdsiam.databases import Database, Proxy

logger = logging.getLogger(__name__)


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
                users |= {secret.user for secret in self.secrets if secret.user and secret.arn in proxy.secret_arns}
        return frozenset(users)
