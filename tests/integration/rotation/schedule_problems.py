"""Secrets that only their owner can put in order: each function makes one, and returns its ARN if it is declared."""

import json

from rdsiam.aws.secrets.schedules import INITIAL
from tests.integration.rotation.schedule_world import FUNCTION, World, wait_for_test_of_rotation


def untagged(world: World, user: str) -> str:
    """Make a secret that rdsiam may not rotate."""
    return world.put(user, "the-password")


def with_another_password(world: World, user: str) -> str:
    """Make a secret whose password does not log in."""
    return world.put(user, "wrong", rdsiam__managed="true")


def of_another_user(world: World, user: str) -> str:
    """Make a secret whose value is for another user."""
    text = json.dumps({**json.loads(world.value(with_another_password(world, user)).text()), "username": "another"})
    return str(world.client.put_secret_value(SecretId=f"own/{user}", SecretString=text)["ARN"])


def foreign(world: World, user: str) -> str:
    """Make a secret that another function rotates."""
    arn = world.put(user, "the-password", rdsiam__managed="true")
    other = FUNCTION.replace("rotate", "another")
    world.client.rotate_secret(
        SecretId=arn, RotationLambdaARN=other, RotationRules={"AutomaticallyAfterDays": 9}, RotateImmediately=False
    )
    wait_for_test_of_rotation(world, arn)
    return arn


def not_named(world: World, user: str) -> None:
    """Make a secret that access.yaml does not name."""
    world.put(user, "the-password", rdsiam__managed="true")


def squatting(world: World, user: str) -> None:
    """Create a secret first, with the tags and content of rdsiam's own."""
    value = world.value(world.put(user, "the-password")).with_login(user, "known-to-somebody")
    tags = [{"Key": key, "Value": "true"} for key in ("rdsiam:managed", INITIAL)]
    name = f"rdsiam/{world.place.database.identifier}/{user}"
    world.client.create_secret(Name=name, SecretString=value.with_login("nobody", "known").text(), Tags=tags)
    world.client.delete_secret(SecretId=f"own/{user}", ForceDeleteWithoutRecovery=True)


def gone(world: World, user: str) -> str:
    """Make a secret that is created again under its name."""
    arn = world.put(user, "the-password", rdsiam__managed="true")
    text = world.value(arn).text()
    world.client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    world.client.create_secret(Name=f"own/{user}", SecretString=text, Tags=[{"Key": "rdsiam:managed", "Value": "true"}])
    return arn


def made_alternating(world: World, user: str) -> str:
    """Make a secret of the other scheme."""
    arn = world.put(user, "the-password", rdsiam__managed="true")
    document = json.loads(world.value(arn).text()) | {"masterarn": arn}
    world.client.put_secret_value(SecretId=arn, SecretString=json.dumps(document))
    return arn


def going(world: World, user: str) -> None:
    """Make a secret that is scheduled for deletion."""
    name = f"rdsiam/{world.place.database.identifier}/{user}"
    world.client.create_secret(Name=name, SecretString="{}")
    world.client.delete_secret(SecretId=name, RecoveryWindowInDays=30)
