"""`python -m localcloud`: starts a cloud, prints one line of JSON when it is up, runs until a signal stops it."""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud import start_failures
from localcloud.core.stop_requests import LIMIT, Stopped, StopRequests
from localcloud.logs import STDERR, log_to_file, log_to_terminal
from localcloud.settings import ENGINES, DatabaseRequest, Settings

_PR_SET_PDEATHSIG = 1
_DESCRIPTION = f"""\
AWS on this machine, as far as rdsiam needs it, without an account and without Docker. localcloud deploys the SAM
template, runs its functions, and gives each RDS instance a real database server that judges login tokens.

When everything runs, localcloud prints one line of JSON: endpoint, credentials, API, functions, outputs, databases.
stderr has what somebody has to know or do; the rest is in a log file, which the JSON names. SIGTERM or Ctrl-C stops
localcloud and removes all that it created. A second one, a second later or more, stops it at once; so does an end that
takes {LIMIT:.0f} s."""
_EPILOG = """\
example:
  python -m localcloud --database postgres:orders:shop > cloud.json &
  aws --endpoint-url "$(jq -r .aws_endpoint_url cloud.json)" rds describe-db-instances"""

logger = logging.getLogger("localcloud")

_LARGEST_PORT = 65_535


def main() -> int:
    """Run a cloud and return the exit code."""
    arguments = _parser().parse_args()
    if arguments.die_with_parent:
        _die_with_parent()
    log_to_terminal(arguments.log_file, verbose=arguments.verbose)
    # A library asks for a directory that it never uses, and warns if the machine has none.
    warnings.filterwarnings("ignore", module="platformdirs")
    requests = StopRequests()
    settings = Settings(
        template=arguments.template,
        port=arguments.port,
        region=arguments.region,
        parameters=dict(arguments.parameter),
        databases=tuple(arguments.database),
        log=arguments.log_file,
        environments=arguments.environments,
        administrator=arguments.administrator,
    )
    began = time.monotonic()
    started = False
    try:
        if settings.log not in (None, STDERR):
            log_to_file(settings.log)
        from localcloud.cloud import Cloud  # imported here so that --help and wrong arguments are answered at once

        with Cloud(settings, requests.check) as cloud:
            started = True
            if not requests.asked:
                _announce(cloud.describe(), time.monotonic() - began)
            requests.wait()
            logger.info("stopping")
    except Stopped as stopped:
        logger.info("%s", stopped)
        return 0
    except Exception as error:
        # Last resort: a sentence, and the traceback with --verbose.
        problem = "failed" if started else "did not start"
        logger.error("%s: %s", problem, start_failures.reason(error), exc_info=arguments.verbose)
        return 1
    logger.info("stopped")
    return 0


def _announce(description: Mapping[str, Any], seconds: float) -> None:
    """Print the line of JSON, and tell on stderr that it is there, as it mostly goes to a file."""
    sys.stdout.write(json.dumps(description) + "\n")
    sys.stdout.flush()
    if description["log"] is not None:
        sys.stderr.write(f"localcloud: up after {seconds:.1f} s; its log is {description['log']}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, default=0, help="TCP port of the AWS endpoint (default: a free one)")
    parser.add_argument("--template", type=Path, default=Path("template.yaml"), help="SAM template (template.yaml)")
    parser.add_argument("--region", default="eu-central-1", help="AWS region (eu-central-1)")
    parser.add_argument(
        "--parameter", action="append", default=[], type=_parameter, metavar="NAME=VALUE",
        help="parameter of the template; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--database", action="append", default=[], type=_database, metavar="ENGINE:IDENTIFIER[:DBNAME]",
        help="a database to create at the start: an instance (postgres, mariadb, mysql) or a cluster with a writer "
        "(aurora-postgresql, aurora-mysql); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--environments", type=int, default=8, metavar="N", help="most environments of a function at a time (8)"
    )
    parser.add_argument(
        "--administrator", choices=("rds", "vanilla"), default="rds",
        help="the administrator of PostgreSQL 18: like RDS's, or as PostgreSQL itself has it (rds)",
    )  # fmt: skip
    parser.add_argument("--log-file", type=Path, help="file of the log; -: stderr (one that is removed at the end)")
    parser.add_argument("--verbose", action="store_true", help="log more, with tracebacks, and on stderr too")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the parent process ends")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to {_LARGEST_PORT})")
    return int(text)


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _database(text: str) -> DatabaseRequest:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not ENGINE:IDENTIFIER[:DBNAME]")
    if parts[0] not in ENGINES:
        raise argparse.ArgumentTypeError(f"{parts[0]!r} is no engine ({', '.join(ENGINES)})")
    return DatabaseRequest(*parts)


def _die_with_parent() -> None:
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")
    if os.getppid() != parent:
        sys.exit(1)  # it ended before the kernel knew


if __name__ == "__main__":
    sys.exit(main())
