"""Facts about a secret that holds a database login. The password is never among them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SecretFacts:
    """A secret of Secrets Manager that holds a database login. Its password is never read into anything.

    :ivar username: as whom it logs in; None where the secret doesn't say.
    :ivar host: as the secret names it.
    :ivar port: as the secret names it; None where it doesn't.
    :ivar engine: as the secret names it: `postgres`, `mysql`, `mariadb`…
    :ivar instance: identifier of the instance or cluster that the secret names beside the host, or instead of it.
    :ivar rotation_lambda: ARN of the function that rotates it.
    :ivar last_rotated: RFC 3339; None where it never was.
    :ivar next_rotation: RFC 3339; None where none is due.
    :ivar rotation_rules: as they were set: `ScheduleExpression`, `Duration`, or `AutomaticallyAfterDays`.
    :ivar administrator: `masterarn`, the administrator's secret that it names: two users take turns.
    :ivar pending_failing: a rotation did not end as quickly as they do; Secrets Manager tries again.
    :ivar pending_stuck: a rotation began, did not end, and blocks all that follow.
    :ivar pending_version: id of the version with AWSPENDING that is not the current one.
    :ivar current_version: id of the version with AWSCURRENT.
    :ivar previous_version: id of the version with AWSPREVIOUS.
    :ivar owning_service: a service that manages it, such as `rds`.
    """

    arn: str
    name: str
    username: str | None
    host: str | None = None
    engine: str | None = None
    rotation_enabled: bool = False
    rotation_lambda: str | None = None
    last_rotated: str | None = None
    next_rotation: str | None = None
    pending_stuck: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    owning_service: str | None = None
    instance: str | None = None
    pending_version: str | None = None
    current_version: str | None = None
    port: int | None = None
    rotation_rules: Mapping[str, Any] = field(default_factory=dict)
    pending_failing: bool = False
    administrator: str | None = None
    previous_version: str | None = None

    @property
    def alternating(self) -> bool:
        """Whether it says that two users take turns."""
        return self.administrator is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `SecretFacts(**…)` gives it back."""
        return asdict(self)

    def is_of(self, arn: str, identifier: str, host: str | None, port: int | None) -> bool:
        """Tell whether it logs in to the database of that ARN, identifier and endpoint."""
        if self.host and host and self.host.rstrip(".").lower() == host.lower():
            return self.port is None or self.port == port
        # The host may be a CNAME, which says nothing.
        return self.instance is not None and self.instance.lower() in {identifier.lower(), arn.lower()}
