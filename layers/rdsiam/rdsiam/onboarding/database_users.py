"""The part of onboarding that is inside a database: users, groups and privileges become what access.yaml declares."""

import json
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from rdsiam.access.effective import effective_users
from rdsiam.access.pending import pending, unreached
from rdsiam.access.selection import Attributes, SelectedDatabase, select
from rdsiam.aws.rds import Database
from rdsiam.core.arn import Arn, is_arn
from rdsiam.core.changes import Change, Unreached
from rdsiam.engines.logins import AUDITOR, MANAGER
from rdsiam.engines.protocols import Authority, DesiredState, Engine, Sessions, Statement, StatementFailed
from rdsiam.engines.registry import ENGINES
from rdsiam.errors import (
    AccessFileInvalid,
    AccessFileUnavailable,
    ConnectionFailed,
    DatabaseNotFound,
    DatabaseNotReady,
    RdsiamError,
    Refused,
    Unsupported,
)
from rdsiam.onboarding.dependencies import UserServices
from rdsiam.onboarding.limits import NeedsConfirmation, limit_users
from rdsiam.onboarding.removal import Removal, Server
from rdsiam.state import fingerprint, recorded
from rdsiam.state.escalations import Examined
from rdsiam.state.inventory import Applied, Ownership, accounts_of
from rdsiam.state.leases import Lease

logger = logging.getLogger(__name__)

#: A checkpoint holds 256 KiB; beyond this many characters changes are listed without their statements.
_MAX_CHANGES = 100_000


_ONBOARD_FIRST = "onboard it: what is revoked is locked then; rdsiam tries again"
#: Statements that make an account or a group.
CREATIONS = frozenset({"create-manager", "create-auditor", "create-user", "create-group"})


class NotProven(RdsiamError):
    """A new user does not log in as it should."""

    code = "not-proven"


@dataclass(frozen=True)
class _Opened:
    """Sessions, and whether the manager was there before the inventory knew of it: the database is a copy."""

    sessions: Sessions
    inherited_ownership: bool = False


class Users:
    """The users of one database.

    :param confirmed: an operator has said that many may be disabled, and that the current attributes decide.
    :param assume_revoked: users to be taken for revoked, for a plan; None for those that are.
    :param holder: the execution, which holds the server's lease while it makes changes.
    :param beyond_limit: an operator has said that many may be disabled, and nothing else.
    """

    def __init__(
        self,
        services: UserServices,
        arn: str,
        confirmed: bool = False,
        assume_revoked: Collection[str] | None = None,
        holder: str = "",
        beyond_limit: bool = False,
    ) -> None:
        self._services = services
        self._arn = arn
        self._confirmed = confirmed
        self._unlimited = confirmed or beyond_limit
        self._assume_revoked = assume_revoked
        self._holder = holder or f"a run {secrets.token_hex(8)}"

    def declared(self) -> dict[str, Any]:
        """Return what is declared, where no users are to be made; `refused` says what only the owner can settle."""
        try:
            database = self._select(self._services.databases.describe(self._arn))
            applied, _ = self._wanted(database)
            return {"changes": [], "applied": _to_json(applied), "pending": self._pending(database)}
        except AccessFileInvalid as error:
            return {"refused": str(error), "changes": []}

    def converge(self, apply: bool, just_switched: bool = False) -> dict[str, Any]:
        """Make users, groups and privileges as declared.

        :param apply: carry the changes out; otherwise only say what they would be.
        :param just_switched: IAM authentication was switched on a moment ago and may not be in force yet.
        :return: `changes`; `refused` says what only the owner can resolve, `needs_confirmation` if it is the limit.
        """
        database = self._services.databases.describe(self._arn)
        with self._lease(database) if apply else nullcontext() as lease:
            return self._converge(database, lease, just_switched)

    def _converge(self, described: Database, lease: Lease | None, just_switched: bool) -> dict[str, Any]:
        """Compare, and carry the changes out if there is a lease. What is compared was read under it."""
        try:
            database = self._select(described)
            applied, wanted = self._wanted(database)
            if not wanted.users and not wanted.accounts:
                return {"changes": [], "applied": _to_json(applied), "pending": self._pending(database)}
            engine = ENGINES[database.family]
            opened = self._open(engine, database, wanted, just_switched)
            try:
                if opened.inherited_ownership and not self._confirmed and not self._is_recorded(database):
                    database = self._as_copy(
                        database, engine.marked_source(opened.sessions.read(engine.entry_database()))
                    )
                    applied, wanted = self._wanted(database)
                copied = opened.inherited_ownership or self._is_copy(database)
                waiting = self._pending(database)
                found = engine.inspect(opened.sessions, database, wanted)
                if copied:
                    wanted = replace(wanted, accounts=engine.inherited_ownership(found, wanted) | dict(wanted.accounts))
                    logger.info("%s is a copy; taken over: %s", self._arn, ", ".join(sorted(wanted.accounts)))
                statements = engine.difference(found, wanted)
                needs_confirmation = "" if self._unlimited else _limit(engine, found, statements, wanted)
                if lease and not needs_confirmation:
                    lease.check()
                    self._apply(engine, opened, database, found, statements, wanted)
                    self._record_examined(database, engine.examined(found))
            finally:
                opened.sessions.close()
        except (Refused, AccessFileInvalid) as error:
            return {"refused": str(error), "changes": []}
        if needs_confirmation:
            return {
                "refused": needs_confirmation,
                "needs_confirmation": True,
                "changes": [] if lease else fit(statements),
            }
        return {"changes": fit(statements), "applied": _to_json(applied), "pending": waiting}

    def remove(self, names: Sequence[str], apply: bool) -> Removal:
        """Lock these managed users and end their sessions, on read replicas too, without waiting for another run.

        Nothing that a server does makes this raise: what could not be done is in `unreached`. On a replica's own ARN
        only sessions end, there and on its replicas: its users are its source's.

        :param names: users; those that rdsiam does not manage are left alone.
        :param apply: do so; otherwise only return the changes.
        """
        database = self._services.databases.describe(self._arn)
        if database.kind == "proxy":
            return Removal()
        source = self._source(database)
        managed = set(self._accounts(source)) if source else set()
        if database.replica_of is not None:
            managed |= self._declared_names(database)
        elif MANAGER not in managed and names:
            # A copy, or a replica that was promoted, may have the users, which onboarding takes over.
            return Removal(unreached=(Unreached(self._arn, "rdsiam has not onboarded it yet", _ONBOARD_FIRST),))
        users = sorted(set(names) & managed - {MANAGER, AUDITOR})
        if not users:
            return Removal()
        engine, logins = ENGINES[database.family], self._services.logins
        replica = database.replica_of is not None
        result = Server(engine, logins, database, source or database, replica).remove(users, apply)
        locked = not replica and not result.unreached
        for each in self._replicas(database):
            if isinstance(each, Unreached):
                result += Removal(unreached=(each,))
            elif each.iam_enabled or self._was_onboarded(each):  # else no user of rdsiam's has logged in there
                server = Server(engine, logins, each, source or database, replica=True)
                result += server.remove(users, apply, locked)
        return result

    def _was_onboarded(self, replica: Database) -> bool:
        """Return whether users were declared there: sessions live on if IAM authentication is switched off."""
        record = self._services.inventory.of(replica)
        return record is not None and record.is_of(replica) and record.applied is not None

    def _source(self, database: Database) -> Database | None:
        """Return the database whose users a replica has, itself if it is none; None if this account can't see it."""
        while database.replica_of is not None:
            try:
                database = self._services.databases.describe(_instance_arn(database, database.replica_of))
            except (DatabaseNotFound, DatabaseNotReady, Unsupported) as error:
                logger.info("the source of %s is not known: %s", self._arn, error)
                return None
        return database

    def _replicas(self, database: Database) -> Iterator[Database | Unreached]:
        """Yield the read replicas of a database, and theirs, and readers of clusters."""
        for name in database.replicas:
            arn = _instance_arn(database, name)
            try:
                replica = self._services.databases.replica(arn)
            except DatabaseNotFound:
                continue  # deleted since
            except Unsupported as error:
                yield Unreached(
                    arn, str(error), "revoke the user there too, with the rdsiam of that region", retry=False
                )
            except DatabaseNotReady as error:
                yield Unreached(arn, str(error), "see that it is available; rdsiam tries again")
            else:
                yield replica
                yield from self._replicas(replica)

    def _declared_names(self, database: Database) -> set[str]:
        """Return the users that access.yaml declares for a database as it is now."""
        try:
            return {user.name for user in self._services.access.current().file.declared(select(database, None))}
        except (AccessFileInvalid, AccessFileUnavailable):
            return set()

    def remove_under_lease(self, names: Sequence[str]) -> Removal:
        """Do what `remove` does while no other run changes the server.

        :raises LeaseTaken: another run does.
        """
        with self._lease(self._services.databases.describe(self._arn)):
            return self.remove(names, apply=True)

    def enabled(self) -> frozenset[str] | None:
        """Return the managed users that can log in; None if the database can't be read. Waits for no other run."""
        database = self._services.databases.describe(self._arn)
        engine, wanted = ENGINES[database.family], DesiredState((), self._accounts(database))
        try:
            sessions = self._open(engine, database, wanted, just_switched=False).sessions
            try:
                return engine.enabled_users(engine.inspect(sessions, database, wanted), wanted)
            finally:
                sessions.close()
        except Exception as error:  # whatever its state is: it must not delay what needs no database
            logger.warning("who can log in to %s could not be read: %s", self._arn, error)
            return None

    def prove(self, only: str | None = None) -> list[dict[str, Any]]:
        """Log in with a token as each declared user, or as one of them, and see that a password is refused."""
        database = self._select(self._services.databases.describe(self._arn))
        _, wanted = self._wanted(database)
        engine = ENGINES[database.family]
        proofs = []
        for user in (each for each in wanted.users if only in (None, each.name)):
            there = engine.proof_database(database, user)
            engine.connect(database, self._services.logins.proof(database, user.name), there).close()
            if not engine.refuses_passwords(database, user.name, there):
                raise NotProven(f"{self._arn}: {user.name} is an IAM user, yet a password was not refused")
            proofs.append({"user": user.name, "token_login": True, "password_refused": True})
            logger.info("proved the login of %s on %s", user.name, self._arn)
        return proofs

    def _lease(self, database: Database) -> AbstractContextManager[Lease]:
        return self._services.leases.hold(database, self._holder)

    def _select(self, database: Database) -> SelectedDatabase:
        return recorded.selection(self._services.databases, self._services.inventory, database, self._confirmed)

    def _wanted(self, database: SelectedDatabase) -> tuple[Applied, DesiredState]:
        access = self._services.access.current()
        revoked = self._assume_revoked
        if revoked is None:
            record = self._services.inventory.of(database)
            revoked = record.revoked if record else ()
        users = effective_users(access.file.declared(database), revoked)
        applied = Applied(
            access.version,
            fingerprint.of_declared(users, access.file.rotating(database)),
            len(access.file.databases),
            tuple(user.name for user in users),
        )
        return applied, DesiredState(users, self._accounts(database), frozenset(revoked), database.resource_id)

    def _accounts(self, database: Database) -> Mapping[str, Ownership]:
        return accounts_of(database, self._services.inventory.of(database))

    def _pending(self, database: SelectedDatabase) -> dict[str, Any] | None:
        """Return what waits for confirmation, as an element of `incomplete`; None if that is nothing."""
        waiting = pending(self._services.access.current().file, database)
        return None if waiting is None else unreached(database, waiting).to_json()

    def _as_copy(self, database: SelectedDatabase, source: str | None) -> SelectedDatabase:
        """Return a copy with the attributes recorded for its source."""
        logger.info("%s is a copy of %s", self._arn, source or "an unknown database")
        return select(database, recorded.of_copy(self._services.inventory, source))

    def _is_recorded(self, database: Database) -> bool:
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.recorded is not None

    def _is_copy(self, database: Database) -> bool:
        """Return whether it is a copy whose attributes were not confirmed when it was last onboarded."""
        record = self._services.inventory.of(database)
        return record is not None and record.is_of(database) and record.copied

    def _record_attributes(self, database: SelectedDatabase, copied: bool) -> None:
        """Record the attributes that this run goes by, unless that is done, before it changes anything."""
        if not self._is_recorded(database):
            self._services.inventory.select(database, database.recorded or Attributes.of(database), copied)

    def _apply(
        self,
        engine: Engine,
        opened: _Opened,
        database: SelectedDatabase,
        found: Any,
        statements: list[Statement],
        wanted: DesiredState,
    ) -> None:
        self._record_attributes(database, opened.inherited_ownership)
        ownership = engine.ownership(found, statements, wanted)
        if not statements and not opened.inherited_ownership:
            if ownership != dict(wanted.accounts):
                self._services.inventory.release_ownership(database, ownership)
            return
        self._services.inventory.record_ownership(database, ownership)
        try:
            engine.apply(opened.sessions, found, statements, wanted)
        except RdsiamError as error:
            # What was not made after all is not ours: somebody else may make it before we come again. What was made
            # is ours, whatever failed later: nobody else would ever disable it.
            there = engine.existing_names(opened.sessions.read(engine.entry_database()))
            foreign, uncertain = _not_created(error, statements), _may_be_created(error)
            kept = {
                name: ownership
                for name, ownership in ownership.items()
                if (name in there and name != foreign) or name == uncertain
            }
            self._services.inventory.record_ownership(database, {**kept, **wanted.accounts})
            raise
        for statement in statements:
            logger.info("%s on %s as %s: %s", statement.kind, self._arn, statement.authority, statement.statement)

    def _record_examined(self, database: Database, examined: Examined | None) -> None:
        """Write down who can act as an administrator, for the audit, which sees the catalogs of one database only."""
        record = self._services.inventory.get(self._arn)
        if examined is not None and (record is None or record.examined != examined):
            self._services.inventory.set_examined(database, examined)

    def _open(self, engine: Engine, database: Database, wanted: DesiredState, just_switched: bool) -> _Opened:
        """Open the first session: as the manager, or as the master where there is no manager yet.

        The manager is tried first even where the inventory knows of none: a copy has its source's, and often no secret
        of the master's that could be read. See docs/decisions/0012-copies.md.
        """
        logins = self._services.logins

        def connect(authority: Authority, name: str | None) -> Any:
            login = logins.manager(database) if authority == "manager" else logins.master(database)
            return engine.connect(database, login, name)

        known = MANAGER in wanted.accounts
        sessions = Sessions(connect, reader="manager")
        try:
            sessions.read(engine.entry_database())
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            if known:
                # A run was killed before it made the manager, or somebody took it away: it is made again.
                logger.warning("%s can't log in to %s, so the master does: %s", MANAGER, self._arn, error)
            elif just_switched and database.master_secret_arn is None:
                raise DatabaseNotReady(
                    f"{database.identifier} lets {MANAGER} in no more than the master, whose secret RDS does not keep; "
                    "if it is a copy it will, once IAM authentication is in force"
                ) from None
            return _Opened(Sessions(connect, reader="master"))
        return _Opened(sessions, inherited_ownership=not known)


def _not_created(error: RdsiamError, statements: Sequence[Statement]) -> str | None:
    """Return the account whose creation failed, since it is somebody else's; None if something else failed."""
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS or _may_be_created(error):
        return None
    failed = error.statement
    before = statements[: statements.index(failed)]
    # On MySQL a user may have several accounts, of which one was made.
    made = any(each.kind in CREATIONS and each.target == failed.target for each in before)
    return None if made else failed.target


def _may_be_created(error: RdsiamError) -> str | None:
    """Return the account that MySQL may have made, or may still make: the connection was lost before its answer.

    PostgreSQL rolls back then.
    """
    if not isinstance(error, StatementFailed) or error.statement.kind not in CREATIONS:
        return None
    # Codes of the client; those of the server begin with 1, 3 or 4.
    lost = error.server_code == "0" or (len(error.server_code) == 4 and error.server_code.startswith("2"))
    return error.statement.target if lost else None


def _instance_arn(database: Database, name: str) -> str:
    """Return the ARN of an instance that Describe names beside a database: in other regions by ARN."""
    return name if is_arn(name) else Arn.parse(database.arn).beside(f"db:{name}")


def _limit(engine: Engine, found: Any, statements: Sequence[Statement], wanted: DesiredState) -> str:
    """Return why these statements exceed the change limit; empty if they don't."""
    leaving = {statement.target for statement in statements if statement.kind == "disable-user"} - wanted.revoked
    try:
        limit_users(leaving, len(engine.enabled_users(found, wanted)), len(wanted.users))
    except NeedsConfirmation as error:
        return str(error)
    return ""


def fit(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return changes as JSON that a checkpoint can hold; the statements of very many are left to the log."""
    whole, size = [], 0
    for change in changes:
        data = change.to_json()
        size += len(json.dumps(data))
        if size > _MAX_CHANGES:
            data["statement"] = "see the log: there are too many changes for one answer"
        whole.append(data)
    return whole


def _to_json(applied: Applied) -> dict[str, Any]:
    return {
        "version": applied.version,
        "declared": applied.declared,
        "entries": applied.entries,
        "users": list(applied.users),
    }
