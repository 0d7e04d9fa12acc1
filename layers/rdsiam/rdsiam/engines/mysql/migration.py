"""MySQL's and MariaDB's part of a migration: a locked account keeps its password, its grants and its routines."""

from collections.abc import Mapping, Sequence
from typing import Any

import pymysql

from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.migration import LoginState, Look, Seen
from rdsiam.engines.mysql.catalog import rows
from rdsiam.engines.mysql.disabling import disable
from rdsiam.engines.mysql.engine import Found
from rdsiam.engines.mysql.grants import account
from rdsiam.engines.mysql.replacement import hosts_of
from rdsiam.engines.protocols import QueryFailed, Statement
from rdsiam.errors import Refused
from rdsiam.state.inventory import Ownership

_KEEPERS = frozenset({"SUPER", "CREATE USER", "GRANT OPTION"})
_REPLICATION = "REPLICATION SLAVE"
#: A session's address ends with the port. Names differ by case, and without BINARY they would not.
_SESSIONS = """
SELECT '', SUBSTRING_INDEX(HOST, ':', 1), NULL, COUNT(*) FROM information_schema.PROCESSLIST
WHERE BINARY USER = %s GROUP BY 2 ORDER BY 2
"""
_NAMED_SESSIONS = """
SELECT COALESCE(a.ATTR_VALUE, ''), SUBSTRING_INDEX(p.HOST, ':', 1), NULL, COUNT(*)
FROM information_schema.PROCESSLIST p LEFT JOIN performance_schema.session_connect_attrs a
    ON a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = 'program_name'
WHERE BINARY p.USER = %s GROUP BY 1, 2 ORDER BY 1, 2
"""
_LOGINS = "SELECT COALESCE(SUM(TOTAL_CONNECTIONS), 0) FROM performance_schema.accounts WHERE BINARY USER = %s"
_DEFINED = """
SELECT COUNT(*) FROM (
    SELECT DEFINER FROM information_schema.ROUTINES UNION ALL SELECT DEFINER FROM information_schema.EVENTS
    UNION ALL SELECT DEFINER FROM information_schema.TRIGGERS UNION ALL SELECT DEFINER FROM information_schema.VIEWS
) AS defined WHERE BINARY DEFINER = %s
"""


class MysqlMigrator:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Migrator`."""

    blind = (
        "a login that begins and ends between two looks is seen only where performance_schema is on, which counts "
        "logins; and what runs more seldom than the watching lasts, at a month's end, is seen by nobody. The audit "
        "plugin or the general log records each login"
    )

    for_good = "there is no way back from in place: the server keeps no password beside the plugin"

    def login_state(self, found: Found, user: str) -> LoginState:
        """Return how the accounts of a user stand."""
        hosts = hosts_of(found.accounts, user)
        held = {privilege for host in hosts for privilege in found.everywhere.get((user, host), ())}
        kept = ""
        if user in {MANAGER, AUDITOR} or held & _KEEPERS:
            kept = f"{user} is an administrator"
        elif _REPLICATION in held:
            kept = f"{user} replicates, and RDS has no IAM logins for that"
        locked = tuple(host for host in hosts if (user, host) in found.logins.locked)
        iam = bool(hosts) and all(found.accounts[user, host] for host in hosts)
        return LoginState(bool(hosts), len(locked) < len(hosts), iam, kept, locked)

    def look(self, session: Any, user: str, successor: str) -> Look:  # noqa: ARG002
        """Look at the list of processes, and at what performance_schema counts where it is on."""
        try:
            counted = bool(rows(session, "SELECT @@performance_schema")[0][0])
            seen = rows(session, _NAMED_SESSIONS if counted else _SESSIONS, [user])
            logins = int(rows(session, _LOGINS, [user])[0][0]) if counted else None
        except pymysql.MySQLError as error:
            raise QueryFailed(str(error.args[0]), str(error.args[-1])) from None
        return Look(tuple(Seen(*row) for row in seen), logins)

    def retire(self, found: Found, user: str) -> list[Statement]:
        """Return ACCOUNT LOCK for each host pattern, and what ends the sessions; its events run on, as its views do."""
        return disable(found.logins, user, events=False)

    def restore(self, found: Found, user: str, locked: Sequence[str]) -> list[Statement]:
        """Return ACCOUNT UNLOCK for what was not locked before."""
        return [
            Statement("enable-user", user, f"ALTER USER {account(user, host)} ACCOUNT UNLOCK")
            for host in hosts_of(found.accounts, user)
            if (user, host) in found.logins.locked and host not in locked
        ]

    def leave(self, found: Found, user: str, accounts: Mapping[str, Ownership]) -> list[Statement]:  # noqa: ARG002
        """Refuse: the plugin took the password's place."""
        if not any(found.accounts[user, host] for host in hosts_of(found.accounts, user)):
            return []
        one = account(user, hosts_of(found.accounts, user)[0])
        raise Refused(
            f"the server has not kept the password of {user}, who was changed in place: take {user} out of access.yaml "
            f"and give it a new one, ALTER USER {one} IDENTIFIED BY …, for each host pattern"
        )

    def remove(self, session: Any, found: Found, successor: str, user: str) -> list[list[Statement]]:
        """Return what drops its accounts, unless something stored runs in its name."""
        hosts = hosts_of(found.accounts, successor)
        for host in hosts:
            if number := int(rows(session, _DEFINED, [f"{successor}@{host}"])[0][0]):
                raise Refused(
                    f"{number} views, routines, triggers or events have {account(successor, host)} as their definer "
                    f"and would fail without it: make {user} their definer, then undo again"
                )
        drops = [Statement("drop-user", successor, f"DROP USER {account(successor, host)}", False) for host in hosts]
        return [[*disable(found.logins, successor), *drops]] if drops else []
