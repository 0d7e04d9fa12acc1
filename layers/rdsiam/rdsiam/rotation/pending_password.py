"""The password of a pending version: how a database gets it from a single user, or from an administrator."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import PREVIOUS
from rdsiam.aws.secrets.value import MasterSecret, Secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.engines.logins import Password
from rdsiam.engines.rotation import ADMINISTRATORS_DATABASE, Rotator, base_name
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.events.rotate import RotationRequest
from rdsiam.rotation.login import log_in, logs_in

StepOutcome = Literal["created", "kept", "set", "logs in already", "tested", "finished", "current already"]


@dataclass(frozen=True)
class PendingPassword:
    """The pending version of a secret, and the database that has to accept its password."""

    request: RotationRequest
    pending: Secret
    database: Database
    engine: Rotator
    store: SecretStore

    # --- a single user ---

    def of_user_itself(self, current: Secret) -> StepOutcome:
        """Set it as the user itself, which logs in with AWSCURRENT or an earlier version."""
        # AWSCURRENT first: it logs in unless the step is repeated, and a failed login may count against a user.
        session, used = log_in(self.engine, self.database, current), current.password
        if session is None:
            if self._logs_in():
                return "logs in already"
            session, used = self._rescue(current)
        with closing(session):
            self.engine.set_own_password(session, used, self.pending.password, self._logs_in)
        return "set"

    def _rescue(self, current: Secret) -> tuple[Any, str]:
        """Log in with the previous version, or with a version of a rotation that was given up halfway.

        :return: the session, and the password that logged in.
        :raises Refused: no version logs in.
        """
        previous = self.store.labelled(self.request.secret, PREVIOUS)
        tried = {current.password}
        for candidate in chain([previous] if previous else [], self.store.unlabelled(self.request.secret)):
            session = self._candidate(current, candidate, tried)
            if session is not None:
                return session, candidate.password
        raise Refused(
            f"{current.user} logs in to {self.database.identifier} with none of AWSCURRENT, AWSPENDING, AWSPREVIOUS "
            "and older versions: the password was changed elsewhere, the user is gone, or on PostgreSQL its VALID "
            "UNTIL has passed, which the server doesn't tell",
            "put the password that is in use into AWSCURRENT; or as an administrator run: ALTER ROLE … VALID UNTIL "
            "'infinity'",
            "login-failed",
        )

    def _candidate(self, current: Secret, candidate: Secret, tried: set[str]) -> Any | None:
        """Return a session that a version opens; None if it is of another login, was tried, or doesn't log in."""
        if candidate.place != current.place or candidate.user != current.user or candidate.password in tried:
            return None
        tried.add(candidate.password)
        return log_in(self.engine, self.database, candidate)

    # --- alternating users ---

    def of_other_user(self, master: MasterSecret, proxies: Sequence[str]) -> StepOutcome:
        """Set it as the administrator.

        :param proxies: names of the proxies that log in with the secret.
        """
        database, pending = self.database, self.pending
        base = base_name(pending.user)
        if proxies:
            raise Refused(
                f"the proxy {', '.join(proxies)} logs in with this secret, and knows one user only",
                "set scheme: single in access.yaml, and take masterarn out of the secret",
                "alternating-unsupported",
            )
        if base == database.master_user:
            raise Refused(
                f"{base} is the administrator of {database.identifier}, and rdsiam makes no clone of an administrator",
                "set scheme: single in access.yaml",
                "alternating-unsupported",
            )
        _refuse_foreign_master(database, str(pending.master_arn), master)
        if master.user in {base, pending.user}:
            raise Refused(
                "masterarn names the secret of the user itself", "name an administrator's secret", "secret-mismatch"
            )
        login = Password(master.user, master.password, "scram-sha-256,md5", never_clear=True)
        try:
            session = self.engine.connect(database, login, ADMINISTRATORS_DATABASE)
        except ConnectionFailed as error:
            raise Refused(
                f"the administrator of masterarn, {master.user}, can't log in: {error}",
                "correct the administrator's secret",
                "login-failed",
            ) from None
        with closing(session):
            self.engine.set_other_password(session, base, pending.user, pending.password)
        return "set"

    def out_of_turn(self) -> StepOutcome:
        """Resolve a version of the user that is in use: AWSCURRENT was put back after the version was made.

        Setting its password would invalidate AWSCURRENT. If the database has the password already, AWSCURRENT is the
        version that does not log in, and the rotation continues. If not, nothing is lost with the version.
        """
        refusal = Refused(
            f"AWSCURRENT has become {self.pending.user}, whose turn this was; AWSPENDING was given up",
            "rotate again: the next turn is the other user's",
            "secret-mismatch",
        )
        return self.accept_only(refusal)

    def accept_only(self, refusal: Refused) -> StepOutcome:
        """Set no password: continue with a version whose password the database has already, else give it up."""
        if self._logs_in():
            return "logs in already"
        self.store.discard_pending(self.request.secret, self.request.token)
        raise refusal

    def _logs_in(self) -> bool:
        return logs_in(self.engine, self.database, self.pending)


def _refuse_foreign_master(database: Database, arn: str, master: MasterSecret) -> None:
    """Refuse an administrator's secret of another database: its password is sent to this one."""
    own = database.master_secret_arn == arn if master.host is None else master.host.lower() == database.host
    if not own:
        raise Refused(
            f"masterarn is not the secret of an administrator of {database.identifier}: its host differs",
            f"name the secret of an administrator of {database.identifier}",
            "secret-mismatch",
        )
