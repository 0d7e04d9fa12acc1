"""`make demo`: two new databases become passwordless by themselves, and a caller logs in with a token.

Each line is printed after its event has happened, on real servers, through the functions of template.yaml. No token and
no password is printed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from localcloud.client import CloudFailed, RunningCloud, start
from localcloud.databases.servers.mysql_programs import find_mysql

ACCESS = """\
version: 1
databases:
  - match: {{identifier: "orders-*", tags: {{env: demo}}}}
    users:
      - name: app_service
        privileges: readwrite
        on: [shop]
        roles: [{roles[orders-app]}]        # signs its own tokens
      - name: analyst
        privileges: readonly
        on: [shop]
        callers:
          - role: {roles[ci-runner]}         # asks POST /tokens
"""
DATABASE_ENGINES = {"orders-pg": "postgres", "orders-my": "mysql"}


def main() -> int:
    """Run the demo and return an exit code."""
    began = time.monotonic()
    engines = {
        name: engine
        for name, engine in DATABASE_ENGINES.items()
        if engine == "postgres" or find_mysql() or shutil.which("mariadbd", path=_PATH)
    }
    if len(engines) < len(DATABASE_ENGINES):
        say("Neither MySQL nor MariaDB is here, so the demo runs with PostgreSQL only; `make setup` fetches them.")
    chapter("AWS on this machine")
    with tempfile.TemporaryDirectory() as directory, start(log=Path(directory) / "localcloud.log") as cloud:
        say(f"AWS's APIs answer at {cloud.endpoint}, the HTTP API at {cloud.api_url}.")
        say("template.yaml is deployed: " + ", ".join(sorted(cloud.functions)) + ", each with its role's credentials.")
        roles = make_roles(cloud)

        chapter("access.yaml declares the users")
        access = ACCESS.format(roles=roles)
        cloud.client("s3").put_object(Bucket=cloud.outputs["AccessBucket"], Key="access.yaml", Body=access.encode())
        say(indent(access))

        chapter("Databases are created as usual, without any option for IAM")
        if "orders-my" in engines:
            say(mysql_server(cloud))
        create(cloud, engines)
        arns = {name: follow(cloud, name) for name in engines}

        chapter("The databases' users now")
        for name, arn in arns.items():
            print_users(cloud, name, arn)

        chapter("ci-runner asks for tokens, and real clients log in with them")
        for name, engine in engines.items():
            log_in(cloud, roles, name, engine)

        chapter("Refused attempts")
        for name, engine in engines.items():
            refuse_password(cloud, name, engine)
        status, answer = post_tokens(cloud, roles["stranger"], "orders-pg", "analyst")
        say(f"stranger asks for a token: {status} {answer['code']}, {answer['detail']}")
        status, answer = post_tokens(cloud, roles["ci-runner"], "orders-pg", "app_service")
        say(f"ci-runner asks to be app_service: {status} {answer['code']}")

        chapter("Onboarding again changes nothing")
        for name, arn in arns.items():
            result = onboard(cloud, arn)
            say(f"onboarding {name} a second time: {result['status']}, changes: {len(result['changes'])}")
        decisions = cloud.client("dynamodb").scan(TableName=cloud.outputs["DecisionsTable"])["Items"]
        say(f"every request for a token is recorded, decisions: {len(decisions)}")
    say(f"\nDone in {time.monotonic() - began:.0f} s; everything is removed again.")
    say("Next: `make local` starts localcloud and leaves it running; docs/try-it.md has commands to try.")
    return 0


def mysql_server(cloud: RunningCloud) -> str:
    """Return a sentence about the server that runs for engine `mysql`."""
    product = str(cloud.info["mysql"])
    if product == "MariaDB":
        return "MariaDB stands in for MySQL, which this machine does not have (see docs/localcloud.md)."
    return f"The server for engine mysql is {product}."


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def chapter(title: str) -> None:
    """Print the headline of a chapter."""
    say(f"\n── {title} ".ljust(100, "─"))


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201 - the demo's output


def indent(text: str) -> str:
    """Indent text."""
    return "".join(f"    {line}\n" for line in text.splitlines()).rstrip("\n")


def make_roles(cloud: RunningCloud) -> dict[str, str]:
    """Create the demo's roles; the tag on orders-app lets rdsiam attach policies to it."""
    iam = cloud.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{cloud.account}:root"}, "Action": "sts:AssumeRole"}
        ],
    }
    roles = {}
    for name in ("orders-app", "ci-runner", "stranger"):
        tags = [{"Key": "rdsiam:managed", "Value": "true"}] if name == "orders-app" else []
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=tags)["Role"]
        iam.put_role_policy(
            RoleName=name,
            PolicyName="ask",
            PolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}],
                }
            ),
        )
        roles[name] = role["Arn"]
    return roles


def create(cloud: RunningCloud, engines: Mapping[str, str]) -> None:
    """Create the instances with RDS's usual call."""
    for name, engine in engines.items():
        cloud.client("rds").create_db_instance(
            DBInstanceIdentifier=name,
            Engine=engine,
            DBInstanceClass="db.t4g.medium",
            AllocatedStorage=20,
            DBName="shop",
            MasterUsername="boss",
            ManageMasterUserPassword=True,
            Tags=[{"Key": "env", "Value": "demo"}],
        )
        say(
            f"$ aws rds create-db-instance --db-instance-identifier {name} --engine {engine} "
            "--manage-master-user-password --tags Key=env,Value=demo …"
        )


def follow(cloud: RunningCloud, name: str) -> str:
    """Print the steps of onboarding until the database is in the inventory; return its ARN."""
    arn = f"arn:aws:rds:{cloud.region}:{cloud.account}:db:{name}"
    say(f"\n{name}:")
    printed = 0
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        lines = steps(log_lines(cloud), arn)
        for line in lines[printed:]:
            say("    " + line.replace(arn, name))
        printed = len(lines)
        if any(line.startswith(f"onboarded {arn}") for line in lines):
            return arn
        time.sleep(0.2)
    raise SystemExit(f"{name} was not onboarded within a minute; see {cloud.logs / 'OnboardFunction.log'}")


def steps(lines: Iterable[str], arn: str) -> list[str]:
    """Return the steps of a database's onboarding, each once, and of a long statement the first line.

    RDS's event and the publication of access.yaml each start an execution, and both describe the database.
    """
    return list(dict.fromkeys(_first_line(line) for line in lines if arn in line))


def _first_line(text: str) -> str:
    first, separator, _ = text.partition("\n")
    return f"{first} …" if separator else first


def log_lines(cloud: RunningCloud) -> Iterator[str]:
    """Yield the messages of OnboardFunction's log, in order."""
    file = cloud.logs / "OnboardFunction.log"
    for line in file.read_text().splitlines() if file.exists() else ():
        if line.startswith("{"):
            message = json.loads(line).get("message")
            if isinstance(message, str):
                yield message


def print_users(cloud: RunningCloud, name: str, arn: str) -> None:
    """Print the accounts that the inventory has for a database."""
    item = cloud.client("dynamodb").get_item(TableName=cloud.outputs["InventoryTable"], Key={"database": {"S": arn}})[
        "Item"
    ]
    accounts = ", ".join(f"{user} ({origin['S']})" for user, origin in sorted(item["accounts"]["M"].items()))
    say(f"{name} ({item['resource_id']['S']}): {accounts}")


def assume(cloud: RunningCloud, role: str) -> Credentials:
    """Return credentials of a session of a role."""
    answer = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="demo")["Credentials"]
    return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])


def post_tokens(cloud: RunningCloud, role: str, database: str, user: str) -> tuple[int, dict[str, Any]]:
    """Ask POST /tokens with a role's credentials; return status and answer."""
    body = json.dumps({"database": database, "user": user}).encode()
    request = AWSRequest("POST", f"{cloud.api_url}/tokens", data=body, headers={"content-type": "application/json"})
    SigV4Auth(assume(cloud, role), "execute-api", cloud.region).add_auth(request)
    try:
        with urlopen(Request(str(request.url), body, dict(request.headers), method="POST"), timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def log_in(cloud: RunningCloud, roles: Mapping[str, str], name: str, engine: str) -> None:
    """Log in with a vended token and the engine's own client, and print the user."""
    status, answer = post_tokens(cloud, roles["ci-runner"], name, "analyst")
    if status != 200:
        raise SystemExit(f"POST /tokens answered {status}: {answer}")
    say(
        f"POST /tokens {{database: {name}, user: analyst}} → {status}: a token of {len(answer['token'])} characters, "
        f"good until {answer['expires_at']}"
    )
    client(cloud, engine, answer["host"], answer["port"], answer["token"])


def refuse_password(cloud: RunningCloud, name: str, engine: str) -> None:
    """Try a password as an IAM user and print the server's answer."""
    endpoint = cloud.client("rds").describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["Endpoint"]
    say(f"analyst tries a password on {name}:")
    client(cloud, engine, endpoint["Address"], endpoint["Port"], "some password")


def client(cloud: RunningCloud, engine: str, host: str, port: int, secret: str) -> None:
    """Ask the server for the session's user, with its own client, as analyst and over verified TLS."""
    if engine == "postgres":
        target = f"host={host} port={port} user=analyst dbname=shop sslmode=verify-full sslrootcert={cloud.ca}"
        query = "SELECT 'PostgreSQL says: you are ' || session_user"
        run(["psql", target, "--no-psqlrc", "-Atc", query], {"PGPASSWORD": secret})
    else:
        where = ["--protocol=tcp", f"--host={host}", f"--port={port}", "--user=analyst", f"--ssl-ca={cloud.ca}"]
        query = "--execute=SELECT CONCAT('MySQL ', @@version, ' says: you are ', CURRENT_USER())"
        run(
            ["mariadb", *where, "--ssl-verify-server-cert", "--skip-column-names", query, "shop"],
            {"MYSQL_PWD": secret},
        )


def run(command: list[str], secret: Mapping[str, str]) -> None:
    """Run a client and print its output. The secret is in its environment, as all users can read arguments."""
    if shutil.which(command[0]) is None:
        say(f"    ({command[0]} is not installed; run `make setup`)")
        return
    ended = subprocess.run(command, env=os.environ | secret, capture_output=True, text=True, timeout=30, check=False)
    say(indent((ended.stdout + ended.stderr).strip()))


def onboard(cloud: RunningCloud, arn: str) -> dict[str, Any]:
    """Invoke OnboardFunction and return its answer."""
    answer = cloud.client("lambda").invoke(
        FunctionName=cloud.functions["OnboardFunction"], Payload=json.dumps({"database": arn})
    )
    result: dict[str, Any] = json.load(answer["Payload"])
    return result


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CloudFailed as failed:
        sys.exit(f"localcloud did not start: {failed.reason or failed}")
