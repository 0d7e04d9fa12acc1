"""New secrets of users who have a password already: it is changed, so this is done for those alone that are confirmed.

The password is in Secrets Manager before the database gets it. Until it was seen to log in the secret carries a tag
that says so, by which whoever comes after a run that was killed goes on.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rdsiam.access_rotation import RotatingUser
from rdsiam.access_store import AccessStore
from rdsiam.audit.facts import SecretFacts
from rdsiam.changes import Change
from rdsiam.databases import Database, Databases, Family
from rdsiam.engines.rotating import PasswordRejected, Rotator
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.inventory import Inventory
from rdsiam.logins import MANAGER, Logins
from rdsiam.rotation.logins import ENGINES, logs_in
from rdsiam.rotation.passwords import LONGEST, new_password
from rdsiam.rotation.rotating_secrets import MANAGED, PREFIX, RotatingSecrets
from rdsiam.rotation.secret import PasswordRules, Secret, read_secret
from rdsiam.rotation.store import SecretStore
from rdsiam.rotation.targets import Targets

logger = logging.getLogger(__name__)

#: How many passwords a database's policy may reject before it is given up.
_TRIES = 3


@dataclass(frozen=True)
class Services:
    """What schedules are set with.

    :ivar rules: what new passwords are made of.
    """

    databases: Databases
    targets: Targets
    access: AccessStore
    inventory: Inventory
    logins: Logins
    secrets: RotatingSecrets
    store: SecretStore
    rules: PasswordRules
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ENGINES)


def name_of(database: Database, user: RotatingUser) -> str:
    """Return how the secret is called that rdsiam makes for a user."""
    return f"{PREFIX}{database.identifier}/{user.name}"


class NewSecrets:
    """Makes secrets for users of one database, and sets their passwords as `rdsiam_manager`."""

    def __init__(self, services: Services, database: Database) -> None:
        self._services = services
        self._database = database
        self._engine = services.engines[database.family]

    def statement(self, user: RotatingUser) -> str:
        """Return the statement that would set the user's password, without that.

        :raises Refused: there is no such user, or the password could not be set.
        """
        identifier = self._database.identifier
        if user.scheme == "alternating" and self._database.master_secret_arn is None:
            raise Refused(
                f"scheme: alternating needs an administrator's secret, and RDS keeps none for {identifier}: switch "
                "--manage-master-user-password on, or say scheme: single"
            )
        session = self._as_manager()
        try:
            statement = self._engine.inspect_other(session, user.name)
        finally:
            session.close()
        if statement is None:
            raise Refused(
                f"there is no user {user.name} on {identifier}, and rdsiam makes none with a password: make it, or "
                "take it out of `rotate`"
            )
        return statement

    def make(self, user: RotatingUser) -> SecretFacts:
        """Make the user's secret; its password is not set yet."""
        name = name_of(self._database, user)
        value = _document(self._database, user, self._password())
        made = self._services.secrets.create(name, value.text(), f"{user.name} on {self._database.identifier}")
        logger.info("made the secret %s", name)
        secret = self._services.secrets.one(made)
        if secret is None:
            raise Refused(f"there is a secret {name} that can't be read: correct its policy or its key")
        return secret

    def set_password(self, user: RotatingUser, secret: SecretFacts, plan: bool) -> Change | None:
        """Give the database the password of a secret that rdsiam made; None where a run that was killed has done so.

        :param plan: change nothing, return what would be.
        """
        value, change = self._services.store.current(secret.arn), None
        if not logs_in(self._engine, self._database, value):
            change = self._change(user, secret, value, plan)
        if not plan:
            self._services.secrets.settle(secret.arn)
        return change

    def _change(self, user: RotatingUser, secret: SecretFacts, value: Secret, plan: bool) -> Change:
        session = self._as_manager()
        try:
            statement = self._engine.inspect_other(session, user.name)
            if statement is None:
                raise Refused(f"the user {user.name} is gone: make it, or delete the secret {secret.name}")
            if not plan:
                value = self._set(session, user, secret, value)
        finally:
            session.close()
        if not plan:
            if not logs_in(self._engine, self._database, value):
                raise Refused(f"{user.name} does not log in with the password that was just set: is it locked?")
            logger.info("set the password of %s on %s", user.name, self._database.arn)
        return Change("set-password", user.name, statement, reversible=False)

    def _set(self, session: Any, user: RotatingUser, secret: SecretFacts, value: Secret) -> Secret:
        for _ in range(_TRIES):
            try:
                self._engine.set_other_password(session, user.name, user.name, value.password)
            except PasswordRejected:
                value = value.with_login(value.user, self._password())
                self._services.secrets.replace(secret.arn, value.text())
            else:
                return value
        raise Refused(
            f"the policy of {self._database.identifier} rejects passwords as the parameters PasswordLength and "
            "PasswordExclude make them: correct those"
        )

    def _password(self) -> str:
        rules, family = self._services.rules, self._database.family
        return new_password(PasswordRules(min(rules.length, LONGEST[family]), rules.excluded), family)

    def _as_manager(self) -> Any:
        try:
            return self._engine.connect(self._database, self._services.logins.manager(self._database), None)
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            raise Refused(
                f"{MANAGER} does not log in to {self._database.identifier}: declare a user there, so that it is "
                f"onboarded first; or put the user's password into a secret tagged {MANAGED}=true ({error})"
            ) from None


def _document(database: Database, user: RotatingUser, password: str) -> Secret:
    host, port = database.endpoint
    identifier = "dbClusterIdentifier" if database.kind == "cluster" else "dbInstanceIdentifier"
    document: dict[str, Any] = {
        "engine": database.engine,
        "host": host,
        "port": port,
        "username": user.name,
        "password": password,
        identifier: database.identifier,
    }
    if database.default_database is not None:
        document["dbname"] = database.default_database
    if user.scheme == "alternating":
        document["masterarn"] = database.master_secret_arn
    return read_secret(json.dumps(document))
