"""Errors of the command, each with the exit code that scripts look at."""

from rdsiam.errors import RdsiamError


class Denied(RdsiamError):
    """AWS refused the call. Exit code 4."""

    exit_code = 4


class NotFound(RdsiamError):
    """What was named does not exist. Exit code 5."""

    exit_code = 5


class TryAgain(RdsiamError):
    """It may go well next time: throttled, not reachable, taken too long. Exit code 6."""

    exit_code = 6


class ExecutionFailed(RdsiamError):
    """The function ended with an error. Exit code 1."""

    exit_code = 1


class Usage(RdsiamError):
    """What was asked for is not clear or not possible. Exit code 2."""

    exit_code = 2


class Different(RdsiamError):
    """It is not as it should be, and only the owner can settle that. Exit code 3."""

    exit_code = 3
