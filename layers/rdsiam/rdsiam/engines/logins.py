"""Logins of the service: by token as manager or auditor, once as the master, by token as a user for its proof."""

from dataclasses import dataclass, field
from typing import Any, Literal

from rdsiam.aws import clients
from rdsiam.aws.rds import Database
from rdsiam.aws.rds_commands import modify_command
from rdsiam.aws.scoped_credentials import assume_for_one_user
from rdsiam.aws.secrets.client import SecretsManager
from rdsiam.aws.secrets.value import read_master
from rdsiam.errors import InvalidRequest, Refused
from rdsiam.signer import TokenSigner

MANAGER = "rdsiam_manager"
AUDITOR = "rdsiam_auditor"


@dataclass(frozen=True)
class Password:
    """A login by password."""

    user: str
    secret: str = field(repr=False)
    #: The methods by which PostgreSQL's server may ask for the password; libpq answers no other. The second value is
    #: for users whose passwords may have been set when MD5 was the default.
    method: Literal["scram-sha-256", "scram-sha-256,md5"] = "scram-sha-256"
    #: On MySQL and MariaDB, give up if the server asks for clear text, as it does for IAM users.
    never_clear: bool = False


@dataclass(frozen=True)
class Token:
    """A login by a token from rdsiam.signer."""

    user: str
    secret: str = field(repr=False)
    #: PostgreSQL asks IAM users for a clear-text password over TLS, which proves that it expects a token.
    method: Literal["password"] = "password"


Login = Password | Token


class Logins:
    """Factory of logins. Its results are never stored, logged or passed between steps.

    :param secrets_manager: reads the master's secret; None if the function never logs in as master.
    :param sts: client of STS; None if the function signs with its own credentials only.
    """

    def __init__(self, secrets_manager: SecretsManager | None, sts: Any, proof_role: str) -> None:
        self._secrets_manager = secrets_manager
        self._sts = sts
        self._proof_role = proof_role

    def manager(self, database: Database) -> Token:
        """Return a login as `rdsiam_manager`, signed with the function's own credentials."""
        return _own(database, MANAGER)

    def auditor(self, database: Database) -> Token:
        """Return a login as `rdsiam_auditor`, signed with the function's own credentials."""
        return _own(database, AUDITOR)

    def master(self, database: Database) -> Login:
        """Return the master's login from the secret that RDS keeps for it; a token if RDS keeps none.

        Without a secret the master may be an IAM user (`MasterUserAuthenticationType`), which Describe doesn't say. The
        credentials that sign its token permit nothing else.

        :raises Refused: RDS does not manage the master's password, and IAM authentication is off; or the secret is not
            in the form that RDS writes.
        :raises SecretsManagerFailed: the secret can't be read.
        """
        if database.master_secret_arn is None:
            if not database.master_may_take_tokens:
                raise Refused(
                    f"{database.identifier}: {MANAGER} can't log in, or may not do this, and there is no master secret "
                    "in Secrets Manager",
                    f"run: {manage_master_password(database)}",
                    "master-secret",
                )
            return self.proof(database, database.master_user)
        assert self._secrets_manager is not None
        try:
            secret = read_master(self._secrets_manager.value(database.master_secret_arn).text)
        except InvalidRequest:
            raise Refused(
                f"{database.identifier}: its master secret is not JSON with username and password, as RDS writes it",
                "let RDS rotate the secret, or enable it again with --manage-master-user-password",
                "master-secret",
            ) from None
        # Up to PostgreSQL 13 RDS stores MD5 hashes by default, and upgrades keep them.
        return Password(secret.user, secret.password, "scram-sha-256,md5")

    def proof(self, database: Database, user: str) -> Token:
        """Return a login as `user`, signed with credentials that permit nothing else."""
        scoped = assume_for_one_user(self._sts, self._proof_role, database, user, session_name="rdsiam-proof")
        signer = TokenSigner(scoped.credentials, database.region)
        return Token(user, signer.token(*database.endpoint, user))


def manage_master_password(database: Database) -> str:
    """Return the command by which RDS manages a master's password. It would make an IAM user a password user."""
    return modify_command(database, "--manage-master-user-password", "--apply-immediately")


def _own(database: Database, user: str) -> Token:
    signer = TokenSigner(clients.own_credentials(), database.region)
    return Token(user, signer.token(*database.endpoint, user))
