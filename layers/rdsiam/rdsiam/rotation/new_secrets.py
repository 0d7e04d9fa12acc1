"""New secrets of users who have a password already: it is changed, so this is done for those alone that are confirmed.

The id of the secret's first version is chosen and recorded before the secret is created: by it, and by nothing that
others can write, a later run recognizes the secret of a run that was killed. The password is in Secrets Manager before
the database gets it, and until it was seen to log in the record says `initial`.
"""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rdsiam.access.rotation import RotatingUser
from rdsiam.access.store import AccessStore
from rdsiam.aws.rds import Database, Databases, Family
from rdsiam.aws.secrets.client import CURRENT
from rdsiam.aws.secrets.schedules import PREFIX, RotatingSecrets, not_created_by_rdsiam
from rdsiam.aws.secrets.value import PasswordRules, Secret, read_secret
from rdsiam.aws.secrets.versions import SecretStore
from rdsiam.core.changes import Change
from rdsiam.engines.logins import MANAGER, Logins
from rdsiam.engines.registry import ROTATORS
from rdsiam.engines.rotation import ADMINISTRATORS_DATABASE, PasswordRejected, Rotator
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.rotation.login import logs_in
from rdsiam.rotation.passwords import LONGEST, new_password
from rdsiam.rotation.targets import Targets
from rdsiam.state.inventory import Inventory, SecretRecord

logger = logging.getLogger(__name__)

#: How many passwords a database's policy may reject before it is given up.
_TRIES = 3
#: Replaces the user's record in the inventory; None removes it.
Remember = Callable[[SecretRecord | None], None]


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
    engines: Mapping[Family, Rotator] = field(default_factory=lambda: ROTATORS)


def name_of(database: Database, user: RotatingUser) -> str:
    """Return how the secret is called that rdsiam makes for a user."""
    return f"{PREFIX}{database.identifier}/{user.name}"


class NewSecrets:
    """Makes secrets for users of one database, and sets their passwords as `rdsiam_manager`."""

    def __init__(self, services: Services, database: Database, remember: Remember) -> None:
        self._services = services
        self._database = database
        self._engine = services.engines[database.family]
        self._remember = remember

    def statement(self, user: RotatingUser) -> str:
        """Return the statement that would set the user's password, without that.

        :raises Refused: there is no such user, or the password could not be set.
        """
        session = self._as_manager()
        try:
            return self._inspect(session, user)
        finally:
            session.close()

    def make(self, user: RotatingUser, administrator: str | None, known: SecretRecord | None) -> SecretRecord:
        """Create the user's secret, and return its record; its password is not set yet.

        :param known: what an earlier run recorded that may have been killed before or after it created the secret.
        :raises Refused: there is a secret of that name that rdsiam did not create.
        """
        name = name_of(self._database, user)
        found = self._services.secrets.find(name)
        if found is not None and known is not None and found[1] == {known.version}:
            record = replace(known, arn=found[0])
            self._remember(record)
            return record
        if known is not None:
            self._remember(None)  # a refused CreateSecret has told others this id: it proves nothing from now on
        if found is not None:
            raise not_created_by_rdsiam(name)
        version = str(uuid.uuid4())
        record = SecretRecord(self._database.resource_id, None, user.scheme, administrator, "initial", version)
        self._remember(record)
        value = _document(self._database, user, self._password(), administrator)
        try:
            arn = self._services.secrets.create(
                name, value.text(), f"{user.name} on {self._database.identifier}", version
            )
        except Refused:
            self._remember(None)
            raise
        record = replace(record, arn=arn)
        self._remember(record)
        logger.info("created the secret %s", name)
        return record

    def set_password(self, user: RotatingUser, record: SecretRecord, plan: bool) -> tuple[SecretRecord, Change | None]:
        """Give the database the password of a secret that rdsiam creates.

        :param record: `initial`, with the ARN of the secret.
        :param plan: change nothing, return what would be.
        :return: the record as it is then, and no change if a run that was killed has set the password.
        """
        arn, change = str(record.arn), None
        value = self._services.store.labelled(arn, CURRENT, record.version)
        if value is None and plan:
            return record, Change("set-password", user.name, self.statement(user), reversible=False)
        if value is None:
            value = _document(self._database, user, self._password(), record.administrator)
            self._services.secrets.put(arn, value.text(), str(record.version))
        if not logs_in(self._engine, self._database, value):
            record, change = self._change(user, record, value, plan)
        if not plan:
            record = replace(record, state="ready", version=None)
            self._remember(record)
        return record, change

    def _inspect(self, session: Any, user: RotatingUser) -> str:
        statement = self._engine.inspect_other(session, user.name)
        if statement is None:
            raise Refused(
                f"there is no user {user.name} on {self._database.identifier}, and rdsiam makes none with a password: "
                "make it, or take it out of `rotate`"
            )
        return statement

    def _change(
        self, user: RotatingUser, record: SecretRecord, value: Secret, plan: bool
    ) -> tuple[SecretRecord, Change]:
        session = self._as_manager()
        try:
            statement = self._inspect(session, user)
            if not plan:
                record, value = self._set(session, user, record, value)
        finally:
            session.close()
        if not plan:
            if not logs_in(self._engine, self._database, value):
                raise Refused(f"{user.name} does not log in with the password that was just set: is it locked?")
            logger.info("set the password of %s on %s", user.name, self._database.arn)
        return record, Change("set-password", user.name, statement, reversible=False)

    def _set(
        self, session: Any, user: RotatingUser, record: SecretRecord, value: Secret
    ) -> tuple[SecretRecord, Secret]:
        for _ in range(_TRIES):
            try:
                self._engine.set_other_password(session, user.name, user.name, value.password)
            except PasswordRejected:
                value = value.with_login(value.user, self._password())
                record = replace(record, version=str(uuid.uuid4()))
                self._remember(record)
                self._services.secrets.put(str(record.arn), value.text(), str(record.version))
            else:
                return record, value
        raise Refused(
            f"the policy of {self._database.identifier} rejects passwords as the parameters PasswordLength and "
            "PasswordExclude make them: correct those"
        )

    def _password(self) -> str:
        rules, family = self._services.rules, self._database.family
        return new_password(PasswordRules(min(rules.length, LONGEST[family]), rules.excluded), family)

    def _as_manager(self) -> Any:
        try:
            manager = self._services.logins.manager(self._database)
            return self._engine.connect(self._database, manager, ADMINISTRATORS_DATABASE)
        except ConnectionFailed as error:
            if error.stage != "login":
                raise
            raise Refused(
                f"{MANAGER} does not log in to {self._database.identifier}: declare a user there, so that it is "
                f"onboarded first; or put the user's password into a secret, and name that by `secret: ARN` ({error})"
            ) from None


def _document(database: Database, user: RotatingUser, password: str, administrator: str | None) -> Secret:
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
    if administrator is not None:
        document["masterarn"] = administrator
    return read_secret(json.dumps(document))
