"""The layout of a server, as fingerprints: the databases and schemas that it has, and the roles that own objects there.

Onboarding records the layout that it saw. If the audit sees another one, `"*"` may not cover all of it yet.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Layout(NamedTuple):
    """The layout of a server.

    :ivar databases: fingerprint of its databases and schemas.
    :ivar owners: fingerprint of the roles that own objects, by database; empty on MySQL and MariaDB, where objects have
        no owners.
    """

    databases: str
    owners: str = ""

    @classmethod
    def of_schemas(cls, names: Iterable[str]) -> "Layout":
        """Return the layout of a MySQL or MariaDB server with these schemas."""
        return cls(_digest("\0".join(sorted(names))))

    @classmethod
    def of_texts(cls, databases: str, owners: str) -> "Layout":
        """Return the layout of a server that describes databases and owners by these texts, however long they are."""
        return cls(_digest(databases), _digest(owners))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return self._asdict()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layout":
        """Return the layout from which `to_json` made this JSON."""
        return cls(data["databases"], data["owners"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
