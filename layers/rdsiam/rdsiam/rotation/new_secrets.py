"""New secrets for users that have a password already: creating one changes it, so that needs a confirmation.

The id of the secret's first version is chosen and recorded before the secret is created. By this id, which nobody else
can write, a later run recognizes the secret of a run that was killed. The password is in Secrets Manager before the
database gets it, and the record says `initial` until the password has logged in.
"""

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rdsiam.access.rotation import RotatingUser
from rdsiam.aws.rds import Database
from rdsiam.aws.secrets.client import CURRENT
from rdsiam.aws.secrets.schedules import PREFIX, not_created_by_rdsiam
from rdsiam.aws.secrets.value import PasswordRules, Secret, read_secret
from rdsiam.core.changes import Change
from rdsiam.engines.logins import MANAGER
from rdsiam.engines.rotation import ADMINISTRATORS_DATABASE, PasswordRejected
from rdsiam.errors import ConnectionFailed, Refused
from rdsiam.rotation.login import logs_in
from rdsiam.rotation.passwords import LONGEST, new_password
from rdsiam.rotation.services import RotationServices
from rdsiam.state.record import SecretRecord

logger = logging.getLogger(__name__)

#: Number of passwords that are tried against a database's password policy.
_TRIES = 3
#: Names of users that are part of a secret's name as they are, and the characters of which they don't consist. A `=` is
#: in none of them, so the name of no other secret has one.
_PLAIN, _NOT_PLAIN = re.compile(r"[A-Za-z0-9_.@-]+"), re.compile(r"[^A-Za-z0-9_.@-]")
#: Number of hexadecimal digits of the hash.
_DIGITS = 16
#: Replaces the user's record in the inventory; None removes it.
ReplaceRecord = Callable[[SecretRecord | None], None]


def name_of(database: Database, user: RotatingUser) -> str:
    """Return the name of the secret that rdsiam creates for a user.

    Characters that Secrets Manager doesn't allow there are replaced, and a hash of the user's name follows.
    """
    name = user.name
    if _PLAIN.fullmatch(name) is None:
        name = f"{_NOT_PLAIN.sub('_', name)}={hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"
    return f"{PREFIX}{database.identifier}/{name}"


class NewSecrets:
    """Creates secrets for users of one database, and sets their passwords as `rdsiam_manager`."""

    def __init__(self, services: RotationServices, database: Database, replace_record: ReplaceRecord) -> None:
        self._services = services
        self._database = database
        self._engine = services.engines[database.family]
        self._replace_record = replace_record

    def statement(self, user: RotatingUser) -> str:
        """Return the statement that would set the user's password, without the password.

        :raises Refused: there is no such user, or the password could not be set.
        """
        session = self._as_manager()
        try:
            return self._inspect(session, user)
        finally:
            session.close()

    def make(self, user: RotatingUser, administrator: str | None, earlier: SecretRecord | None) -> SecretRecord:
        """Create the user's secret, and return its record; its password is not set yet.

        :param earlier: record of an earlier run that may have been killed before or after it created the secret.
        :raises Refused: there is a secret of that name that rdsiam did not create.
        """
        name = name_of(self._database, user)
        existing = self._services.secrets.find(name)
        if existing is not None and earlier is not None and existing[1] == {earlier.version}:
            record = replace(earlier, arn=existing[0])
            self._replace_record(record)
            return record
        if earlier is not None:
            self._replace_record(
                None
            )  # a refused CreateSecret has shown this id to others: it proves nothing from now on
        if existing is not None:
            raise not_created_by_rdsiam(name)
        return self._create(name, user, administrator)

    def _create(self, name: str, user: RotatingUser, administrator: str | None) -> SecretRecord:
        version = str(uuid.uuid4())
        record = SecretRecord(self._database.resource_id, None, user.scheme, administrator, "initial", version)
        self._replace_record(record)
        value = _value(self._database, user, self._password(), administrator)
        description = f"{user.name} on {self._database.identifier}"
        try:
            arn = self._services.secrets.create(name, value.text(), description, version)
        except Refused:
            self._replace_record(None)
            raise
        record = replace(record, arn=arn)
        self._replace_record(record)
        logger.info("created the secret %s", name, extra={"user": user.name})
        return record

    def set_password(self, user: RotatingUser, record: SecretRecord, plan: bool) -> tuple[SecretRecord, Change | None]:
        """Give the database the password of a secret that rdsiam creates.

        :param record: `initial`, with the ARN of the secret.
        :param plan: change nothing, return the change that would be made.
        :return: the record after that, and no change if a run that was killed has set the password.
        """
        arn, change = str(record.arn), None
        value = self._services.store.labelled(arn, CURRENT, record.version)
        if value is None and plan:
            return record, Change("set-password", user.name, self.statement(user), reversible=False)
        if value is None:
            value = _value(self._database, user, self._password(), record.administrator)
            self._services.secrets.put(arn, value.text(), str(record.version))
        if not logs_in(self._engine, self._database, value):
            record, change = self._change(user, record, value, plan)
        if not plan:
            record = replace(record, state="ready", version=None)
            self._replace_record(record)
        return record, change

    def _inspect(self, session: Any, user: RotatingUser) -> str:
        statement = self._engine.inspect_other(session, user.name)
        if statement is None:
            raise Refused(
                f"there is no user {user.name} on {self._database.identifier}, and rdsiam creates no user with a "
                "password",
                "create the user, or take it out of `rotate`",
                "user-missing",
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
                raise Refused(
                    f"{user.name} does not log in to {self._database.identifier} with the password that was just set",
                    "unlock the user, then set it up again",
                    "login-failed",
                )
            logger.info("set the password of %s on %s", user.name, self._database.arn, extra={"user": user.name})
        return record, Change("set-password", user.name, statement, reversible=False)

    def _set(
        self, session: Any, user: RotatingUser, record: SecretRecord, value: Secret
    ) -> tuple[SecretRecord, Secret]:
        """Set the password; if the database's policy rejects it, store and record another one first."""
        for _ in range(_TRIES):
            try:
                self._engine.set_other_password(session, user.name, user.name, value.password)
            except PasswordRejected:
                value = value.with_login(value.user, self._password())
                record = replace(record, version=str(uuid.uuid4()))
                self._replace_record(record)
                self._services.secrets.put(str(record.arn), value.text(), str(record.version))
            else:
                return record, value
        raise Refused(
            f"the policy of {self._database.identifier} rejects passwords as the parameters PasswordLength and "
            "PasswordExclude make them",
            "correct these parameters",
            "password-rejected",
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
                f"{MANAGER} does not log in to {self._database.identifier} ({error})",
                "declare a user there, so that the database is onboarded first; or put the user's password into a "
                "secret, and name that by `secret: ARN`",
                "login-failed",
            ) from None


def _value(database: Database, user: RotatingUser, password: str, administrator: str | None) -> Secret:
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
