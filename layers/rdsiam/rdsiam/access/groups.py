"""Group roles of PostgreSQL servers in access.yaml: `adopt_groups` and `group_prefix` of an entry."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rdsiam.access.document import Path
from rdsiam.aws.rds_models import Family

_POSTGRES_ONLY = "is for PostgreSQL only, where privileges hang on groups; limit the entry with match.engine"


class Groups(NamedTuple):
    """The declaration of all entries together about the groups of one server.

    :ivar prefix: begins the names of the groups.
    :ivar adopt: manage groups of these names that somebody else created.
    """

    prefix: str = ""
    adopt: bool = False

    @classmethod
    def merged(cls, declared: Iterable[tuple[str | None, bool]]) -> "Groups":
        """Return what entries say together, of which at most one prefix differs from None."""
        entries = list(declared)
        prefix = next((prefix for prefix, _ in entries if prefix is not None), "")
        return cls(prefix, any(adopt for _, adopt in entries))

    def in_common_with(self, recorded: "Groups") -> "Groups":
        """Return what holds for current and for recorded attributes: the recorded names, adopted if both say so."""
        return Groups(recorded.prefix, self.adopt and recorded.adopt)


#: Nothing is declared: rdsiam creates groups and names them after their databases.
NO_GROUPS = Groups()


def problems_of(families: Iterable[Family], prefix: str | None, adopt: bool) -> Iterator[tuple[Path, str]]:
    """Yield the keys of an entry that are about a family of engines without groups."""
    if "mysql" in families:
        if adopt:
            yield ("adopt_groups",), _POSTGRES_ONLY
        if prefix is not None:
            yield ("group_prefix",), _POSTGRES_ONLY


def differing_prefixes(prefixes: Iterable[tuple[Path, str | None]]) -> Iterator[tuple[Path, str]]:
    """Yield each prefix that is another one than that of an entry before, which matches the database too."""
    first = None
    for path, prefix in prefixes:
        first = prefix if first is None else first
        if prefix is not None and prefix != first:
            yield path, f"another entry that matches the database gives its groups the prefix {first}: say it once"
