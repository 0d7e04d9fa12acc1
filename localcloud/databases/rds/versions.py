"""Engine versions: those that RDS offers, and the upgrades between them.

The minor versions are examples of what AWS lists, up to those that the servers of localcloud have. AWS withdraws old
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Versions of new databases whose EngineVersion isn't given.
DEFAULTS = {
    "postgres": "18.1",
    "mariadb": "10.11.11",
    "mysql": "8.4.7",
    "aurora-postgresql": "18.3",
    "aurora-mysql": "8.0.mysql_aurora.3.10.1",
    "docdb": "5.0.0",
    "neptune": "1.4.6.0",
}
#: Engines whose databases can have IAM authentication, with the first series that has it.
_IAM_FROM = {"postgres": "13", "aurora-postgresql": "13", "mysql": "5.7", "aurora-mysql": "5.7", "mariadb": "10.11"}


class UnknownVersion(Exception):
    """RDS offers no such version; the message has AWS's words."""


class UpgradeRefused(Exception):
    """A version can't be upgraded to another; the message has AWS's words."""


@dataclass(frozen=True)
class Series:
    """A major version of an engine.

    :ivar versions: its versions, in ascending order.
    :ivar rounds: the dates of the versions, in quarters since the first release of the newest series, if they decide
        about upgrades.
    """

    engine: str
    name: str
    versions: tuple[str, ...]
    rounds: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """The family of parameter groups."""
        return f"{self.engine}{self.name}"

    def round_of(self, version: str) -> int:
        """Return the date of a version; 0 if dates don't decide."""
        return self.rounds[self.versions.index(version)] if self.rounds else 0


def _postgres(engine: str) -> Iterable[Series]:
    # PostgreSQL releases minor versions of all series on one day: 18.1 came with 17.7, 16.11, 15.15, 14.20 and 13.23.
    for name, first, last, offset in (
        (13, 11, 23, 22), (14, 8, 23, 19), (15, 3, 18, 14), (16, 1, 14, 10), (17, 1, 10, 6), (18, 1, 4, 0),
    ):  # fmt: skip
        minors = range(first, last + 1)
        yield Series(
            engine, str(name), tuple(f"{name}.{minor}" for minor in minors), tuple(minor - offset for minor in minors)
        )


def _numbered(engine: str, name: str, prefix: str, numbers: Iterable[int]) -> Series:
    return Series(engine, name, tuple(f"{prefix}{number}" for number in numbers))


SERIES: tuple[Series, ...] = (
    *_postgres("postgres"),
    *_postgres("aurora-postgresql"),
    Series("mysql", "5.7", ("5.7.44",)),
    _numbered("mysql", "8.0", "8.0.", range(36, 46)),
    _numbered("mysql", "8.4", "8.4.", range(3, 9)),
    _numbered("mariadb", "10.6", "10.6.", range(14, 25)),
    _numbered("mariadb", "10.11", "10.11.", range(4, 16)),
    _numbered("mariadb", "11.4", "11.4.", range(3, 10)),
    _numbered("mariadb", "11.8", "11.8.", range(3, 6)),
    Series("aurora-mysql", "5.7", ("5.7.mysql_aurora.2.12.5",)),
    Series(
        "aurora-mysql",
        "8.0",
        tuple(f"8.0.mysql_aurora.3.{each}" for each in ("04.3", "04.4", "08.2", "09.0", "10.0", "10.1")),
    ),
)


def series_of(engine: str) -> list[Series]:
    """Return the series of an engine in ascending order; empty if localcloud knows none."""
    return [each for each in SERIES if each.engine == engine]


def resolve(engine: str, requested: str | None) -> str:
    """Return the version that a new database gets: the newest of a series if the request names the series only.

    :raises UnknownVersion: RDS does not offer it.
    """
    if requested is None:
        return DEFAULTS[engine]
    known = series_of(engine)
    for series in known:
        if requested == series.name:
            return series.versions[-1]
        if requested in series.versions:
            return requested
    if known:
        raise UnknownVersion(f"Cannot find version {requested} for {engine}")
    return requested


def family(engine: str, version: str) -> str | None:
    """Return the family of parameter groups of a version; None if localcloud doesn't know it."""
    return next((each.family for each in series_of(engine) if version in each.versions), None)


def upgrade_targets(engine: str, version: str) -> list[tuple[str, bool]]:
    """Return the versions that a version can be upgraded to, each with whether that is a major upgrade."""
    known = series_of(engine)
    here = next((each for each in known if version in each.versions), None)
    if here is None:
        return []
    later = known[known.index(here) + 1 :]
    newer = here.versions[here.versions.index(version) + 1 :]
    return [
        *((each, False) for each in newer),
        *(
            (each, True)
            for series in later
            for each in series.versions
            if series.round_of(each) >= here.round_of(version)
        ),
    ]


def check_upgrade(engine: str, version: str, target: str, *, allow_major: bool) -> None:
    """Check that a database can be upgraded.

    :raises UpgradeRefused: RDS refuses it.
    """
    targets = dict(upgrade_targets(engine, version))
    if target not in targets:
        raise UpgradeRefused(f"Cannot upgrade {engine} from {version} to {target}")
    if targets[target] and not allow_major:
        raise UpgradeRefused("The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version.")


def is_major_upgrade(engine: str, version: str, target: str) -> bool:
    """Tell whether an upgrade changes the series."""
    return dict(upgrade_targets(engine, version)).get(target, False)


def has_iam(series: Series) -> bool:
    """Tell whether databases of a series can have IAM authentication."""
    names = [each.name for each in series_of(series.engine)]
    first = _IAM_FROM.get(series.engine)
    if first not in names or series.name not in names:
        return False
    return names.index(series.name) >= names.index(first)
