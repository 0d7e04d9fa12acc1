"""Exit codes of the command, and the errors that have them."""

from collections.abc import Mapping
from enum import IntEnum

from rdsiam import errors
from rdsiam.errors import RdsiamError


class ExitCode(IntEnum):
    """Exit codes; docs/command.md lists them."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    DIFFERENT = 3
    DENIED = 4
    NOT_FOUND = 5
    TRY_AGAIN = 6
    INCOMPLETE = 7
    INTERRUPTED = 130


class CommandError(RdsiamError):
    """Base of the command's own errors, never raised itself."""

    exit_code = ExitCode.UNEXPECTED


class Denied(CommandError):
    """AWS or the API refused the call, or the caller has no valid credentials."""

    code = "denied"
    exit_code = ExitCode.DENIED


class CredentialsExpired(Denied):
    """The caller's AWS credentials have expired, and can't be renewed without the caller."""

    code = "expired-credentials"


class NotFound(CommandError):
    """The named database, stack, file or setting does not exist."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND


class TryAgain(CommandError):
    """The call was throttled, took too long or reached nobody; it may succeed the next time."""

    code = "try-again"
    exit_code = ExitCode.TRY_AGAIN


class ExecutionFailed(CommandError):
    """A function ended with an error, or its answer can't be used."""

    code = "execution-failed"
    exit_code = ExitCode.UNEXPECTED


class Usage(CommandError):
    """The command line is ambiguous, or asks for something impossible."""

    code = "usage"
    exit_code = ExitCode.USAGE


#: Error of another package → exit code. A function's error arrives as the name of its class.
EXIT_CODES: Mapping[type[RdsiamError], ExitCode] = {
    errors.InvalidRequest: ExitCode.USAGE,
    errors.Unsupported: ExitCode.USAGE,
    errors.ProxySettingsInvalid: ExitCode.USAGE,
    errors.ListenFailed: ExitCode.USAGE,
    errors.AccessFileInvalid: ExitCode.DIFFERENT,
    errors.NeedsConfirmation: ExitCode.DIFFERENT,
    errors.NothingListed: ExitCode.DIFFERENT,
    errors.Refused: ExitCode.DIFFERENT,
    errors.NotAllowed: ExitCode.DENIED,
    errors.DatabaseNotFound: ExitCode.NOT_FOUND,
    errors.NoSuchEndpoint: ExitCode.NOT_FOUND,
    errors.ExtraMissing: ExitCode.NOT_FOUND,
    errors.AccessFileUnavailable: ExitCode.TRY_AGAIN,
    errors.ConnectionFailed: ExitCode.TRY_AGAIN,
    errors.DatabaseNotReady: ExitCode.TRY_AGAIN,
    errors.EndpointUnreachable: ExitCode.TRY_AGAIN,
    errors.LeaseTaken: ExitCode.TRY_AGAIN,
}


class FunctionError(CommandError):
    """A function raised an error of rdsiam; code and exit code are that error's.

    :param name: the error's class.
    """

    code = "function-error"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        kind = _KINDS[name]
        self.code = kind.code
        self.exit_code = EXIT_CODES[kind]


_KINDS: Mapping[str, type[RdsiamError]] = {kind.__name__: kind for kind in EXIT_CODES}


def is_known(name: str) -> bool:
    """Tell whether an error that a function raised has an exit code, by the name of its class."""
    return name in _KINDS


def exit_code(error: RdsiamError) -> ExitCode:
    """Return the exit code for an error."""
    return error.exit_code if isinstance(error, CommandError) else exit_code_of(type(error))


def exit_code_of(kind: type[RdsiamError]) -> ExitCode:
    """Return the exit code for a class of errors."""
    if issubclass(kind, CommandError):
        return kind.exit_code
    return next((code for known, code in EXIT_CODES.items() if issubclass(kind, known)), ExitCode.UNEXPECTED)
