"""Every kind of finding, by its id."""

from collections.abc import Mapping

from rdsiam.audit import kinds_accounts, kinds_databases, kinds_policies
from rdsiam.audit.kind import Kind

KINDS: Mapping[str, Kind] = {
    kind.id: kind for kind in (*kinds_databases.KINDS, *kinds_accounts.KINDS, *kinds_policies.KINDS)
}
