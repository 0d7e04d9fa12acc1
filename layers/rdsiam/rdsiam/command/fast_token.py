"""Fast path of `rdsiam token --host …`: signs with plain credentials, without loading click or botocore.

It handles only unambiguous cases. Everything else (help, a mistake, SSO, a role to assume, a CNAME) is left to the
command in token.py, which does the same more slowly.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdsiam.signer import Credentials

_NEEDED = {"--host", "--port", "--user"}
_KNOWN = _NEEDED | {"--region", "--profile"}
#: Settings of a profile that botocore prefers to the keys beside them.
_NOT_PLAIN = ("role_arn", "web_identity_token_file", "credential_process", "credential_source", "source_profile")
_NOT_PLAIN_PREFIXES = ("sso_", "login_")


def token(arguments: Sequence[str]) -> bool:
    """Print a token if the fast path applies; return whether it was printed.

    :param arguments: of the command line, without the program's name.
    """
    given = _options(arguments)
    if given is None:
        return False
    # Imported late, because other commands need none of it.
    from rdsiam.errors import RdsiamError
    from rdsiam.tokens.endpoints import region_of

    try:
        host, region_of_host = given["--host"], region_of(given["--host"])
        region = given.get("--region") or region_of_host
        if region is None or (region_of_host is None and host != "localhost") or not given["--port"].isdecimal():
            return False
        credentials = plain_credentials(given.get("--profile"), os.environ)
        if credentials is None:
            return False
        from rdsiam.signer import TokenSigner

        signed = TokenSigner(credentials, region).token(host, int(given["--port"]), given["--user"])
    except (RdsiamError, OSError, ValueError):
        return False
    if region_of_host not in (None, region):
        warn(f"{host} is in {region_of_host}: it will refuse a token for {region}")
    show(signed)
    return True


def show(signed: str) -> None:
    """Print a token and a newline; warn if stdout is a terminal."""
    if sys.stdout.isatty():
        warn("anyone who sees this token can log in with it for 15 minutes; rdsiam psql and rdsiam mysql don't show it")
    sys.stdout.write(signed + "\n")
    sys.stdout.flush()


def warn(line: str) -> None:
    """Write a warning to stderr."""
    sys.stderr.write(f"rdsiam: {line}\n")


def plain_credentials(profile: str | None, environment: Mapping[str, str]) -> "Credentials | None":
    """Return the credentials that botocore would find in the environment or in a profile's static keys.

    :param profile: if it is given, the environment's keys are ignored, as in botocore.
    :return: None if botocore might find other credentials, or has to explain an error.
    """
    if profile is None and environment.get("AWS_ACCESS_KEY_ID"):
        return _from_environment(environment)
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") or environment.get("AWS_ROLE_ARN"):
        return None
    default = environment.get("AWS_DEFAULT_PROFILE", environment.get("AWS_PROFILE", ""))
    return _from_profile(profile or default or "default", environment)


def _from_environment(environment: Mapping[str, str]) -> "Credentials | None":
    from datetime import UTC, datetime, timedelta

    from rdsiam.signer import LIFETIME, Credentials

    if not environment.get("AWS_SECRET_ACCESS_KEY"):
        return None
    expiry = environment.get("AWS_CREDENTIAL_EXPIRATION")
    if expiry and datetime.fromisoformat(expiry).astimezone(UTC) < datetime.now(UTC) + timedelta(seconds=LIFETIME):
        return None
    return Credentials(
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
        environment.get("AWS_SESSION_TOKEN") or environment.get("AWS_SECURITY_TOKEN"),
    )


def _from_profile(name: str, environment: Mapping[str, str]) -> "Credentials | None":
    from rdsiam.signer import Credentials

    files = []
    for variable, path, prefix in (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", ""),
        ("AWS_CONFIG_FILE", "~/.aws/config", "profile"),
    ):
        sections = _sections(environment.get(variable) or path, prefix, name)
        if sections is None or len(sections) > 1:
            return None
        files += sections
    for section in files:
        if any(key in _NOT_PLAIN or key.startswith(_NOT_PLAIN_PREFIXES) for key in section):
            return None
    for section in files:
        if "aws_access_key_id" in section:
            keys = (section["aws_access_key_id"], section.get("aws_secret_access_key", ""))
            session = section.get("aws_session_token") or section.get("aws_security_token")
            return Credentials(*keys, session) if all(keys) else None
    return None


def _sections(path: str, prefix: str, name: str) -> list[Mapping[str, str]] | None:
    """Return the sections of a profile (more than one is an error); None if the file can't be read."""
    import configparser

    parser = configparser.RawConfigParser(default_section="")
    try:
        with open(os.path.expanduser(os.path.expandvars(path)), encoding="utf-8") as file:  # noqa: PTH123, PTH111
            parser.read_file(file)
    except FileNotFoundError:
        return []
    except (configparser.Error, UnicodeDecodeError, OSError):
        return None
    result: list[Mapping[str, str]] = []
    for section in parser.sections():
        if prefix and section.startswith(prefix) and ('"' in section or "'" in section):
            return None  # quoted names are rare: left to botocore
        words = section.split() if prefix else [section]
        if (words == [name] and (not prefix or name == "default")) or (prefix and words == [prefix, name]):
            result.append(dict(parser.items(section)))
    return result


def _options(arguments: Sequence[str]) -> dict[str, str] | None:
    """Return the options of `token --host H …`; None for anything else."""
    if not arguments or arguments[0] != "token":
        return None
    given: dict[str, str] = {}
    rest = iter(arguments[1:])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name not in _KNOWN or name in given:
            return None
        given[name] = value if equals else next(rest, "")
    return given if given.keys() >= _NEEDED and all(given.values()) else None
