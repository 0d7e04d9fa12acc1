"""Custom endpoints of Aurora clusters, and the members that each leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class CustomEndpoint:
    """A custom endpoint; its life is its cluster's.

    :ivar kind: READER, WRITER or ANY: the members that it may lead to.
    :ivar static_members: identifiers of the members that it leads to; empty for all but the excluded ones.
    """

    identifier: str
    resource_id: str
    kind: str
    static_members: tuple[str, ...] = ()
    excluded_members: tuple[str, ...] = ()
    address: str = ""
    status: str = "creating"

    def become_available(self) -> None:
        """Move the status on, unless the endpoint is being deleted."""
        if self.status == "creating":
            self.status = "available"

    def arn(self, cluster: Any) -> str:
        """Return the ARN of the endpoint."""
        return f"arn:{cluster.partition}:rds:{cluster.region}:{cluster.account_id}:cluster-endpoint:{self.identifier}"

    def leads_to(self, member: Any, is_writer: bool) -> bool:
        """Tell whether the endpoint leads to a member of its cluster."""
        if self.kind != "ANY" and (self.kind == "WRITER") != is_writer:
            return False
        if self.static_members:
            return member.db_instance_identifier in self.static_members
        return member.db_instance_identifier not in self.excluded_members
