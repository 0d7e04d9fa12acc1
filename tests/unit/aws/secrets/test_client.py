"""The adapter of Secrets Manager: AWS's error codes become classes, in one place, and messages hold no value."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rdsiam.aws.secrets import errors
from rdsiam.aws.secrets.client import Description, SecretsManager, Value

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-AbCdEf"


def failing(code: str, message: str = "no") -> SecretsManager:
    """Return an adapter whose every call fails with that code."""

    def fail(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": message}}, "any")

    methods = ("get_secret_value", "put_secret_value", "rotate_secret", "create_secret", "update_secret_version_stage")
    return SecretsManager(SimpleNamespace(**dict.fromkeys(methods, fail)))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ResourceNotFoundException", errors.SecretNotFound),
        ("ResourceExistsException", errors.SecretExists),
        ("InvalidRequestException", errors.SecretInWrongState),
        ("AccessDeniedException", errors.SecretDenied),
        ("DecryptionFailure", errors.SecretDenied),
        ("ThrottlingException", errors.SecretsManagerFailed),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda manager: manager.value(ARN),
        lambda manager: manager.put(ARN, "a-hidden-value", "v1"),
        lambda manager: manager.create(ARN, "a-hidden-value", "d", "v1", []),
        lambda manager: manager.move_label(ARN, "AWSCURRENT", to="v1"),
    ],
    ids=["value", "put", "create", "move_label"],
)
def test_each_error_code_of_aws_becomes_one_class(code, error, call):
    with pytest.raises(errors.SecretsManagerFailed) as raised:
        call(failing(code))
    assert type(raised.value) is error
    assert raised.value.aws_code == code
    assert ARN in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("A previous rotation isn't complete. That rotation will be reattempted.", errors.RotationUnfinished),
        (
            "You can't perform this operation on the secret because it was marked for deletion.",
            errors.SecretInWrongState,
        ),
    ],
)
def test_an_unfinished_rotation_has_an_error_class_of_its_own(message, error):
    with pytest.raises(errors.SecretInWrongState) as raised:
        failing("InvalidRequestException", message).rotate(ARN)
    assert type(raised.value) is error


def test_neither_error_nor_representation_shows_a_value():
    assert "hidden" not in repr(Value(ARN, "v1", "hidden"))


def test_a_label_is_found_on_another_version_than_the_given_one():
    description = Description(ARN, True, stages={"v1": ("AWSCURRENT", "AWSPENDING"), "v2": ("AWSPENDING",)})
    assert description.version("AWSCURRENT") == "v1"
    assert description.version("AWSPENDING", other_than="v1") == "v2"
    assert description.version("AWSPREVIOUS") is None
