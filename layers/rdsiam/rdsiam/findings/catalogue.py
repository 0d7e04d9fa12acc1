"""Every kind of finding, by its id."""

from collections.abc import Mapping

from rdsiam.findings import accounts, databases, policies
from rdsiam.findings.kind import Kind

KINDS: Mapping[str, Kind] = {kind.id: kind for kind in (*databases.KINDS, *accounts.KINDS, *policies.KINDS)}
