"""Every kind of finding, by its id."""

from collections.abc import Mapping

from rdsiam.findings.accounts import ACCOUNT_KINDS
from rdsiam.findings.administrators import ADMINISTRATOR_KINDS
from rdsiam.findings.databases import DATABASE_KINDS
from rdsiam.findings.declared_users import DECLARED_USER_KINDS
from rdsiam.findings.kind import Kind
from rdsiam.findings.lost_passwords import LOST_PASSWORD_KINDS
from rdsiam.findings.notices import NOTICE_KINDS
from rdsiam.findings.policies import POLICY_KINDS
from rdsiam.findings.rotations import ROTATION_KINDS
from rdsiam.findings.schemas import SCHEMA_KINDS

_ALL = (
    *DATABASE_KINDS,
    *NOTICE_KINDS,
    *ACCOUNT_KINDS,
    *DECLARED_USER_KINDS,
    *LOST_PASSWORD_KINDS,
    *ADMINISTRATOR_KINDS,
    *SCHEMA_KINDS,
    *ROTATION_KINDS,
    *POLICY_KINDS,
)
#: Id → kind.
KINDS: Mapping[str, Kind] = {kind.id: kind for kind in _ALL}
