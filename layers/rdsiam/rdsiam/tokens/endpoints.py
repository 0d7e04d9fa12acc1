"""Names of RDS endpoints: which region they tell, and which one a CNAME leads to."""

import re
from collections.abc import Callable, Sequence

from rdsiam.tokens import partitions

__all__ = ["follow", "is_rds", "region_of"]

_REGION = r"[a-z]{2,8}(?:-[a-z]+)+-\d{1,2}"
#: China's have the region behind `rds`, most others before it.
_ENDPOINT = re.compile(
    rf"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:(?P<before>{_REGION})\.rds|rds\.(?P<behind>{_REGION}))\.(?P<suffix>[a-z0-9.-]+)"
)


def is_rds(host: str) -> bool:
    """Tell whether it is the name of an RDS endpoint: an instance's, a cluster's or a proxy's."""
    return region_of(host) is not None


def region_of(host: str) -> str | None:
    """Return the region that an RDS endpoint's name tells; None for any other name."""
    match = _ENDPOINT.fullmatch(host.lower().rstrip("."))
    if match is None or not partitions.is_dns_suffix(match["suffix"]):
        return None
    return match["before"] or match["behind"]


def _names_of(host: str) -> Sequence[str]:
    """Return all names on the way from `host` to its address, as the system's resolver reports them."""
    import socket  # most names need no look-up, and a token signed offline must not wait for one

    try:
        name, aliases, _ = socket.gethostbyname_ex(host)
    except UnicodeError:  # an empty or too long part, which the resolver isn't asked for
        raise socket.gaierror(socket.EAI_NONAME, "it can't be the name of a host") from None
    return [*aliases, name]


def follow(host: str, names_of: Callable[[str], Sequence[str]] = _names_of) -> str:
    """Return the RDS endpoint that `host` is or leads to by CNAMEs.

    An endpoint is itself an alias of a machine's name: it stops there, as a token is only good for the endpoint.

    :return: `host` where no endpoint is on the way.
    :raises OSError: the name does not resolve.
    """
    if is_rds(host):
        return host.lower().rstrip(".")
    names = {name.lower().rstrip(".") for name in names_of(host) if is_rds(name)}
    return names.pop() if len(names) == 1 else host
