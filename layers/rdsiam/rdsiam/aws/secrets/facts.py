"""Facts about a secret that holds a database login. The password is never among them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class SecretFacts:
    """A secret of Secrets Manager that holds a database login. Its password is never read into anything.

    :ivar username: user that logs in; None if the value doesn't say.
    :ivar host: host in the value.
    :ivar port: port in the value; None if it has none.
    :ivar engine: engine in the value: `postgres`, `mysql`, `mariadb`…
    :ivar instance: identifier of the instance or cluster in the value, beside the host or instead of it.
    :ivar rotation_lambda: ARN of the function that rotates it.
    :ivar last_rotated: RFC 3339; None if it never was.
    :ivar next_rotation: RFC 3339; None if none is due.
    :ivar rotation_rules: as they were set: `ScheduleExpression`, `Duration`, or `AutomaticallyAfterDays`.
    :ivar administrator: `masterarn`, the administrator's secret for two users that take turns.
    :ivar pending_failing: a rotation has not ended in time; Secrets Manager tries again.
    :ivar pending_stuck: a rotation began, has not ended, and blocks all that follow.
    :ivar pending_version: id of the version with AWSPENDING that is not the current one.
    :ivar current_version: id of the version with AWSCURRENT.
    :ivar previous_version: id of the version with AWSPREVIOUS.
    :ivar owning_service: AWS service that manages it, such as `rds`.
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
        """Whether two users take turns."""
        return self.administrator is not None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; `SecretFacts(**…)` gives it back."""
        return asdict(self)

    def is_of(self, arn: str, identifier: str, host: str | None, port: int | None) -> bool:
        """Tell whether the secret logs in to the database of that ARN, identifier and endpoint."""
        if self.host and host and self.host.rstrip(".").lower() == host.lower():
            return self.port is None or self.port == port
        # A different host may be a CNAME of the database, so the identifier decides.
        return self.instance is not None and self.instance.lower() in {identifier.lower(), arn.lower()}
