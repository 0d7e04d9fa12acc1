"""Migrations on MySQL and MariaDB: a locked account keeps its password, its grants and its routines."""

from collections.abc import Callable, Mapping, Sequence

import pymysql

from rdsiam.core.counts import agreed, counted
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.migration import BackgroundWork, LoginState, Observation, ObservedClient
from rdsiam.engines.mysql.catalog import LOGIN_USER, SESSIONS, rows, server_answer
from rdsiam.engines.mysql.connection import MysqlSession
from rdsiam.engines.mysql.disabling import disable
from rdsiam.engines.mysql.grants import account
from rdsiam.engines.mysql.snapshot import Snapshot
from rdsiam.engines.statements import QueryFailed, Statement
from rdsiam.errors import Refused
from rdsiam.state.record import Ownership

#: Global privileges of an administrator.
_ADMINISTRATIVE = frozenset({"SUPER", "CREATE USER", "GRANT OPTION"})
_REPLICATION = "REPLICATION SLAVE"
#: A session's address ends with the port. Users' names are case-sensitive, which the comparison is of bytes only.
_OBSERVED = f"""
SELECT COALESCE(a.ATTR_VALUE, ''), SUBSTRING_INDEX(p.HOST, ':', 1), NULL, COUNT(*)
FROM {SESSIONS} LEFT JOIN performance_schema.session_connect_attrs AS a
    ON a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = 'program_name'
WHERE CAST({LOGIN_USER} AS BINARY) = %s GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608 constants
#: `performance_schema.accounts` counts failed logins too. Here a session that has ended counts, if only by its QUIT.
_STATEMENTS = """SELECT CAST(COALESCE(SUM(VARIABLE_VALUE), 0) AS UNSIGNED) FROM performance_schema.status_by_account
WHERE VARIABLE_NAME = 'Questions' AND CAST(USER AS BINARY) = %s"""
_DEFINED = """
SELECT COUNT(*) FROM (
    SELECT DEFINER FROM information_schema.ROUTINES UNION ALL SELECT DEFINER FROM information_schema.EVENTS
    UNION ALL SELECT DEFINER FROM information_schema.TRIGGERS UNION ALL SELECT DEFINER FROM information_schema.VIEWS
) AS defined WHERE CAST(DEFINER AS BINARY) = %s
"""


class MysqlMigrator:
    """The engines `mysql` and `mariadb`, and Aurora MySQL; see `Migrator`."""

    blind_spots = (
        "a login that begins and ends between two observations, unless performance_schema is on, which counts the "
        "user's statements; and a job that runs less often than the watching lasts, such as at the end of a month. "
        "The audit plugin or the general log records each login"
    )
    irreversible = "there is no way back from in place: the server keeps no password beside the plugin"

    def login_state(self, snapshot: Snapshot, user: str, successor: str = "") -> LoginState:  # noqa: ARG002
        """Return how the accounts of a user can log in."""
        hosts = snapshot.hosts_of(user)
        held = snapshot.held_everywhere(user)
        keep_reason = ""
        if user in {MANAGER, AUDITOR} or held & _ADMINISTRATIVE:
            keep_reason = f"{user} is an administrator"
        elif _REPLICATION in held:
            keep_reason = f"{user} replicates, and RDS has no IAM logins for that"
        locked = tuple(host for host in hosts if (user, host) in snapshot.activity.locked)
        iam = bool(hosts) and all(snapshot.accounts[user, host] for host in hosts)
        return LoginState(bool(hosts), len(locked) < len(hosts), iam, keep_reason, locked)

    def observe(self, session: MysqlSession, user: str, successor: str) -> Observation:  # noqa: ARG002
        """Read the process list, and the counters of performance_schema if it is on."""
        try:
            counted = bool(rows(session, "SELECT @@performance_schema")[0][0])
            clients = rows(session, _OBSERVED, [user])
            statements = int(rows(session, _STATEMENTS, [user])[0][0]) if counted else None
        except pymysql.MySQLError as error:
            raise QueryFailed(*server_answer(error)) from None
        return Observation(tuple(ObservedClient(*row) for row in clients), statements)

    def background_work(
        self,
        connect: Callable[[str | None], MysqlSession],  # noqa: ARG002
        snapshot: Snapshot,  # noqa: ARG002
        user: str,  # noqa: ARG002
        successor: str,  # noqa: ARG002
    ) -> tuple[BackgroundWork, ...]:
        """Return none: events run as their definer whether the account is locked or not."""
        return ()

    def retire(self, snapshot: Snapshot, user: str) -> list[Statement]:
        """Return ACCOUNT LOCK for each host pattern, and the end of sessions; events and views continue to work."""
        return disable(snapshot.activity, user, events=False)

    def restore(self, snapshot: Snapshot, user: str, locked: Sequence[str]) -> list[Statement]:
        """Return ACCOUNT UNLOCK for each host pattern that was not locked before."""
        return [
            Statement("enable-user", user, f"ALTER USER {account(user, host)} ACCOUNT UNLOCK")
            for host in snapshot.hosts_of(user)
            if (user, host) in snapshot.activity.locked and host not in locked
        ]

    def revert_in_place(
        self,
        snapshot: Snapshot,
        user: str,
        accounts: Mapping[str, Ownership],  # noqa: ARG002
    ) -> list[Statement]:
        """Refuse, since the plugin replaced the password."""
        hosts = snapshot.hosts_of(user)
        if not any(snapshot.accounts[user, host] for host in hosts):
            return []
        # Without a plugin, MySQL would give the new password to the plugin of tokens, and MariaDB needs none.
        plugin, expiry = ("", " PASSWORD EXPIRE DEFAULT") if snapshot.mariadb else ("WITH caching_sha2_password ", "")
        raise Refused(
            f"the server has not kept the password of {user}, which was changed in place",
            f"take {user} out of access.yaml and give it a new password for each host pattern: "
            f"ALTER USER {account(user, hosts[0])} IDENTIFIED {plugin}BY …{expiry}",
            "password-not-kept",
        )

    def drop_successor(
        self, session: MysqlSession, snapshot: Snapshot, successor: str, user: str
    ) -> list[list[Statement]]:
        """Return the statements that drop its accounts, unless a stored object runs in its name."""
        hosts = snapshot.hosts_of(successor)
        for host in hosts:
            if number := int(rows(session, _DEFINED, [f"{successor}@{host}"])[0][0]):
                raise Refused(
                    f"{counted(number, 'view, routine, trigger or event', 'views, routines, triggers or events')} "
                    f"{agreed(number, 'has', 'have')} {account(successor, host)} as definer and would fail without it",
                    f"make {user} the definer, then undo again",
                    "user-in-use",
                )
        drops = [Statement("drop-user", successor, f"DROP USER {account(successor, host)}", False) for host in hosts]
        return [[*disable(snapshot.activity, successor), *drops]] if drops else []
