"""The cause of a connection that failed, as far as RDS tells it: psql and mysql know only that it did."""

from dataclasses import dataclass

from rdsiam.command.described import describe_at
from rdsiam.command.installation import Installation
from rdsiam.command.login import LoginToken
from rdsiam.core import shell
from rdsiam.core.arn import Arn
from rdsiam.errors import RdsiamError
from rdsiam.tokens.endpoints import is_rds

#: Maximum seconds to wait for RDS. The user has already seen an error.
_SECONDS = 2


@dataclass(frozen=True)
class Cause:
    """The state of a database, in the words of doctor.

    :ivar state: empty if RDS doesn't say, or says that the database runs.
    :ivar remedy: what to do.
    """

    state: str
    remedy: str


def cause(installation: Installation, token: LoginToken, endpoint: str | None) -> Cause:
    """Return why the endpoint of a token takes no connection; the command of doctor if that isn't known.

    :param endpoint: value of --endpoint.
    """
    # Imported late: a login that succeeds has no use for it.
    from rdsiam.doctor import status

    named = ["--endpoint", endpoint] if endpoint else []
    doctor = shell.join(["rdsiam", "doctor", Arn.parse(token.database).name, token.user, *named])
    unknown = Cause("", f"{doctor} finds the cause")
    rds = installation.aws.client("rds", _SECONDS)
    try:
        if is_rds(token.host):
            database = describe_at(installation.aws, token.host.partition(".")[0], token.host, rds=rds)
        else:
            database = describe_at(installation.aws, token.database, None, rds=rds)
    except RdsiamError:
        return unknown  # the caller may not describe it, or nobody answers
    verdict = status.of(database)
    return unknown if verdict.state == "OK" else Cause(verdict.detail, verdict.fix)
