"""Failures of Secrets Manager: AWS's error codes as classes, so that no caller compares codes."""

from rdsiam.errors import RdsiamError


class SecretsManagerFailed(RdsiamError):
    """A call of Secrets Manager failed. The message names operation, secret and AWS's code, never a value.

    :ivar aws_code: AWS's own error code.
    :ivar advice: remedy of every error of the class.
    """

    code = "secrets-manager-failed"
    advice = ""

    def __init__(self, operation: str, secret: str, aws_code: str, message: str) -> None:
        problem = f"{operation} of {secret} failed with {aws_code}: {message}".rstrip(": ")
        super().__init__(problem, self.advice)
        self.operation = operation
        self.secret = secret
        self.aws_code = aws_code


class SecretNotFound(SecretsManagerFailed):
    """There is no such secret, or no such version of it."""

    code = "secret-not-found"


class SecretExists(SecretsManagerFailed):
    """A secret of that name, or a version of that id with another value, exists already."""

    code = "secret-exists"


class SecretInWrongState(SecretsManagerFailed):
    """The secret's state doesn't allow the call: it is scheduled for deletion, or the version has no such label."""

    code = "secret-in-wrong-state"


class RotationUnfinished(SecretInWrongState):
    """A rotation of the secret has begun and not ended, so that no other one can begin."""

    code = "rotation-unfinished"


class SecretDenied(SecretsManagerFailed):
    """The owner of the secret, or of its key, denies rdsiam this call by a policy."""

    code = "secret-denied"
    advice = "allow it in the secret's resource policy and in the policy of its key"
