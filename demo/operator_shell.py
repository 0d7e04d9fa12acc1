"""`eval "$(make -s operator)"`: makes a shell that of the account's administrator, who is also publisher and operator.

In an account the command finds bucket, functions and API in the outputs of the stack. localcloud has no stack, so their
names become variables here.
"""

import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from demo.first_login import ROOT, say, shell_lines, wait_for
from rdsiam.command.settings import SETTINGS


def main() -> int:
    """Read the cloud's addresses from the file in the argument, and print lines for a shell to evaluate."""
    if sys.stdout.isatty():
        say('this prints lines for a shell, with credentials; run: eval "$(make -s operator)"')
        return 2
    info = wait_for(Path(sys.argv[1]))
    address = urlsplit(info["aws_endpoint_url"])
    try:
        socket.create_connection((str(address.hostname), address.port or 80), timeout=3).close()
    except OSError:
        raise SystemExit(f"nothing answers at {address.geturl()}: run `make local > {sys.argv[1]}`") from None
    sys.stdout.write("".join(f"{line}\n" for line in operator_lines(info)))
    say("you are the account's administrator now, and the operator of rdsiam")
    return 0


def operator_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for bash and zsh: the administrator's credentials, rdsiam's functions, the AWS CLI of this project.

    :param info: the line of JSON that `python -m localcloud` printed.
    """
    own = info["credentials"]
    keys = {"AccessKeyId": own["access_key_id"], "SecretAccessKey": own["secret_access_key"], "SessionToken": ""}
    yield from shell_lines(info, keys)
    yield "unset AWS_SESSION_TOKEN"
    for name, output in SETTINGS.items():
        if output in info["outputs"]:
            yield f"export RDSIAM_{name.upper()}={shlex.quote(info['outputs'][output])}"
    # As docs/deploy.md defines it for the outputs of a stack.
    cases = " ".join(f"{name}) echo {shlex.quote(str(value))} ;;" for name, value in info["outputs"].items())
    yield f'out() {{ case "$1" in {cases} esac; }}'
    yield f'aws() {{ {shlex.quote(str(ROOT / ".venv/bin/aws"))} "$@"; }}'


if __name__ == "__main__":
    sys.exit(main())
