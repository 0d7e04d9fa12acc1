"""`eval "$(make -s login)"`: creates a database and a role that may log in to it, and sets a shell up for that role.

It takes the steps of an account's owner: publishes an access.yaml, creates a role and an instance, and waits until
rdsiam has onboarded it. A second run creates only the missing parts.
"""

import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, EndpointConnectionError

from localcloud import first_databases
from localcloud.settings import DatabaseRequest

ROOT = Path(__file__).resolve().parent.parent
ROLE, DATABASE, SCHEMA, USER = "developer", "orders", "shop", "app_service"
_LIMIT = 600.0  # seconds; the first `make local` on a machine installs missing packages
_MISSING_LIMIT = 5.0  # a shell creates the file as soon as `make local > cloud.json &` starts
_ONBOARDED_LIMIT = 90.0

Client = Callable[[str], Any]


def main() -> int:
    """Read the cloud's addresses from the file in the argument, and print lines for a shell to evaluate."""
    if sys.stdout.isatty():
        say('this prints lines for a shell, with credentials; run: eval "$(make -s login)"')
        return 2
    info = wait_for(Path(sys.argv[1]))
    own = info["credentials"]
    session = boto3.Session(own["access_key_id"], own["secret_access_key"], region_name=info["region"])

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=info["aws_endpoint_url"])  # type: ignore[call-overload]

    try:
        role = make_role(client, info["account"])
    except EndpointConnectionError:
        raise SystemExit(f"nothing answers at {info['aws_endpoint_url']}: run `make local > {sys.argv[1]}`") from None
    make_database(client, info, role)
    keys = client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    sys.stdout.write("".join(f"{line}\n" for line in shell_lines(info, keys)))
    say(f"you are {ROLE} now, who may be {USER} on {DATABASE}: rdsiam psql {DATABASE} -u {USER} -d {SCHEMA}")
    return 0


def make_role(client: Client, account: str) -> str:
    """Create the role, which may call the HTTP API, and return its ARN."""
    iam = client("iam")
    trusted = {"AWS": f"arn:aws:iam::{account}:root"}
    trust = _policy({"Effect": "Allow", "Principal": trusted, "Action": "sts:AssumeRole"})
    ask = _policy({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"})
    try:
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)
    except iam.exceptions.EntityAlreadyExistsException:
        say(f"there is a role {ROLE} already")
    iam.put_role_policy(RoleName=ROLE, PolicyName="ask", PolicyDocument=ask)
    return f"arn:aws:iam::{account}:role/{ROLE}"


def make_database(client: Client, info: Mapping[str, Any], role: str) -> None:
    """Declare the user, create the database, and wait until it is onboarded.

    :param info: the line of JSON that `python -m localcloud` printed.
    :param role: ARN of the role that may be the user.
    """
    _publish(client("s3"), info["outputs"]["AccessBucket"], role)
    try:
        client("rds").describe_db_instances(DBInstanceIdentifier=DATABASE)
    except ClientError:
        say(f"creating {DATABASE} …")
        first_databases.make(client, [DatabaseRequest("postgres", DATABASE, SCHEMA)], Path(info["ca"]))
    arn = f"arn:aws:rds:{info['region']}:{info['account']}:db:{DATABASE}"
    request = {"TableName": info["outputs"]["InventoryTable"], "Key": {"database": {"S": arn}}}
    limit = time.monotonic() + _ONBOARDED_LIMIT
    while not client("dynamodb").get_item(**request).get("Item", {}).get("finished", {}).get("BOOL"):
        if time.monotonic() > limit:
            raise SystemExit(
                f"{DATABASE} was not onboarded: declare {USER} on it in access.yaml, or start a new cloud; "
                f"logs are in {info['logs']}"
            )
        time.sleep(0.1)


def _publish(s3: Any, bucket: str, role: str) -> None:
    """Publish an access.yaml, unless there is one, which may have other people's declarations."""
    try:
        s3.head_object(Bucket=bucket, Key="access.yaml")
    except ClientError:
        user = {"name": USER, "privileges": "owner", "on": [SCHEMA], "callers": [{"role": role}]}
        access = {"version": 1, "databases": [{"match": {"identifier": DATABASE}, "users": [user]}]}
        # JSON is YAML.
        s3.put_object(Bucket=bucket, Key="access.yaml", Body=json.dumps(access, indent=2).encode())
    else:
        say(f"there is an access.yaml already; it stays as it is, and has to declare {USER} on {DATABASE} for {role}")


def wait_for(file: Path) -> Mapping[str, Any]:
    """Return the line of JSON that the cloud prints."""
    start = time.monotonic()
    said = False
    while not (file.exists() and (text := file.read_text()).endswith("\n")):
        if file.exists() and not _is_written(file) and not file.read_text():
            raise SystemExit(f"`make local > {file.name}` ended without a cloud; the reason is where it was started")
        if not said:
            say(f"waiting for `make local > {file.name}` …")
            said = True
        waited = time.monotonic() - start
        if waited > _MISSING_LIMIT and not file.exists():
            raise SystemExit(f"there is no {file}: run `make local > {file.name} &` in this folder first")
        if waited > _LIMIT:
            raise SystemExit(f"{file} is still empty: does `make local > {file.name}` run?")
        time.sleep(0.2)
    try:
        info: Mapping[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        raise SystemExit(f"{file} is not the line that `make local > {file.name}` prints: start it again") from None
    return info


def _is_written(file: Path) -> bool:
    """Tell whether a process of this user has a file open, as `make` and all programs that it runs have."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.samefile(file):
                return True
    return False


def shell_lines(info: Mapping[str, Any], keys: Mapping[str, str]) -> Iterator[str]:
    """Yield lines for bash and zsh: the cloud's addresses, the role's credentials, and the command of this folder."""
    values = {
        "AWS_ENDPOINT_URL": info["aws_endpoint_url"],
        "AWS_DEFAULT_REGION": info["region"],
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
        "RDSIAM_API_URL": info["api_url"],
        "RDSIAM_CA": info["ca"],
        **info["environment"],
    }
    yield "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_REGION"
    yield from (f"export {name}={shlex.quote(str(value))}" for name, value in values.items())
    yield f"export PATH={shlex.quote(str(ROOT / 'demo' / 'bin'))}:$PATH"
    yield 'case $- in *i*) eval "$(rdsiam completion "${ZSH_VERSION:+zsh}${BASH_VERSION:+bash}")";; esac'


def _policy(statement: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
